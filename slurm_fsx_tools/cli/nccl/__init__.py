"""``slurm-fsx nccl``: NCCL on the shared file system, and what jobs get of it."""

from __future__ import annotations

import click

from ..lazy import Entry, LazyGroup

ENTRIES = {
    "env": Entry(f"{__package__}.show", "env", "Show what a job would get on this node, and why."),
}


@click.group(cls=LazyGroup, entries=ENTRIES)
def nccl() -> None:
    """Install NCCL on the shared file system, and see what jobs get of it."""
