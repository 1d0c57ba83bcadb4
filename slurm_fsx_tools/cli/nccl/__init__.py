"""``slurm-fsx nccl``: NCCL on the shared file system, what jobs get of it, and whether it is right and fast."""

from __future__ import annotations

import click

from ..lazy import Entry, LazyGroup

ENTRIES = {
    "apply": Entry(f"{__package__}.apply", "apply", "Bring running nodes to the NCCL that is installed."),
    "apply-here": Entry(f"{__package__}.apply", "apply_here", "Bring this node to it: what apply runs on each."),
    "env": Entry(f"{__package__}.env", "env", "Show what a job would get on this node."),
}


@click.group(cls=LazyGroup, entries=ENTRIES)
def nccl() -> None:
    """Show NCCL on the shared file system, and what jobs get of it."""
