"""``slurm-fsx monitoring``: how Prometheus finds the nodes, and what it is told of jobs."""

from __future__ import annotations

import click

from ..lazy import Entry, LazyGroup

ENTRIES = {
    "cloudwatch": Entry(
        f"{__package__}.cloudwatch", "cloudwatch", "Have this node's CloudWatch agent send logs and metrics."
    ),
    "install": Entry(f"{__package__}.install", "install", "Have Prometheus run on the head node."),
}


@click.group(cls=LazyGroup, entries=ENTRIES)
def monitoring() -> None:
    """Have Prometheus find every node, and know the jobs on it."""
