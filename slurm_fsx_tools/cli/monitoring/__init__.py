"""``slurm-fsx monitoring``: how Prometheus finds the nodes, and what it is told of jobs."""

from __future__ import annotations

import click

from ..lazy import Entry, LazyGroup

ENTRIES = {
    "cloudwatch": Entry(
        f"{__package__}.cloudwatch", "cloudwatch", "Have this node's CloudWatch agent send logs and metrics."
    ),
    "install": Entry(f"{__package__}.install", "install", "Have Prometheus run on the head node."),
    "register": Entry(f"{__package__}.register", "register", "Tell Prometheus what this node exports."),
    "serve": Entry(f"{__package__}.serve", "serve", "Offer targets by HTTP, and a page that shows how the cluster is."),
    "sync": Entry(f"{__package__}.sync", "sync", "Keep Prometheus' targets as Slurm's nodes are."),
}


@click.group(cls=LazyGroup, entries=ENTRIES)
def monitoring() -> None:
    """Have Prometheus find every node, and know the jobs on it."""
