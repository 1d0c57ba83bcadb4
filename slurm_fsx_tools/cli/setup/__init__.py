"""``slurm-fsx setup``: this software on this node."""

from __future__ import annotations

import click

from ..lazy import Entry, LazyGroup

ENTRIES = {
    "place": Entry(f"{__package__}.versions", "place", "What an archive's install.sh runs."),
    "rollback": Entry(f"{__package__}.versions", "rollback", "Go back to the version that ran before."),
    "upgrade": Entry(f"{__package__}.versions", "upgrade", "Put an archive on this machine, and let it run."),
    "versions": Entry(f"{__package__}.versions", "list_versions", "List the versions on this machine."),
}


@click.group(cls=LazyGroup, entries=ENTRIES)
def setup() -> None:
    """Set this node up, upgrade it, take it back."""
