"""``slurm-fsx nccl``: NCCL on the shared file system, and what jobs get of it."""

from __future__ import annotations

import click

from ..lazy import Entry, LazyGroup

ENTRIES = {
    "apply": Entry(f"{__package__}.apply", "apply", "Bring running nodes to the NCCL that is installed."),
    "apply-here": Entry(
        f"{__package__}.apply", "apply_here", "Bring this node to the NCCL that is installed; apply runs it."
    ),
    "env": Entry(f"{__package__}.show", "env", "Show what a job would get on this node, and why."),
    "history": Entry(f"{__package__}.bandwidth", "history", "Show earlier bandwidth tests, and slow nodes."),
    "install": Entry(f"{__package__}.install", "install_version", "Build a version, and let jobs have it."),
    "lint": Entry(f"{__package__}.lint", "lint", "Name what in an environment does harm, and who says so."),
    "list": Entry(f"{__package__}.versions", "list_versions", "List the versions that are there."),
    "remove": Entry(f"{__package__}.versions", "remove", "Remove versions that no job uses."),
    "test": Entry(f"{__package__}.bandwidth", "test", "Measure the bandwidth between GPUs of some nodes."),
    "use": Entry(f"{__package__}.versions", "use", "Switch to another version: jobs that start from now on get it."),
    "variables": Entry(f"{__package__}.lint", "variables", "Print all that is known of each variable."),
    "verify": Entry(f"{__package__}.verify", "verify", "See whether a version is whole, loads, and reaches jobs."),
}


@click.group(cls=LazyGroup, entries=ENTRIES)
def nccl() -> None:
    """Install NCCL on the shared file system, and see what jobs get of it."""
