"""``slurm-fsx setup``: bring a machine into shape, see what would change, take it back."""

from __future__ import annotations

import click

from ..lazy import Entry, LazyGroup

ENTRIES = {
    "head": Entry(f"{__package__}.head", "head", "Set up the head node and the tree on the shared file system."),
    "hooks": Entry(f"{__package__}.hooks", "hooks", "Have Slurm run our prolog and epilog."),
    "node": Entry(f"{__package__}.node", "node", "Set up a compute node; for its boot."),
    "place": Entry(f"{__package__}.versions", "place", "What install.sh of an archive runs: put it on this machine."),
    "rollback": Entry(f"{__package__}.versions", "rollback", "Go back to the version that ran before."),
    "uninstall": Entry(f"{__package__}.uninstall", "uninstall", "Take back what set-up has done on this machine."),
    "upgrade": Entry(f"{__package__}.versions", "upgrade", "Put an archive on this machine, and let it run."),
    "versions": Entry(f"{__package__}.versions", "list_versions", "List the versions on this machine."),
}


@click.group(cls=LazyGroup, entries=ENTRIES)
def setup() -> None:
    """Set up the head node, compute nodes and Slurm's hooks; upgrade what is installed.

    Each command changes only what is not yet as it should be, and can be run again at any time. --dry-run shows what it
    would do, with differences. Files of others, and ours that were changed by hand, are kept and named.
    """
