"""``slurm-fsx monitoring``: how Prometheus finds the nodes, and what it is told of jobs."""

from __future__ import annotations

import click

from ..lazy import Entry, LazyGroup

ENTRIES: dict[str, Entry] = {}


@click.group(cls=LazyGroup, entries=ENTRIES)
def monitoring() -> None:
    """Have Prometheus find every node, and know the jobs on it."""
