"""``slurm-fsx setup uninstall``: take back what set-up has done on this machine."""

from __future__ import annotations

import click

from ...errors import SlurmFsxError
from ...provision.steps import Record, undo
from .text import ROOT, report


@click.command()
@click.option("--dry-run", is_flag=True, help="List what would be taken back, and do nothing.")
@click.argument("what", nargs=-1)
def uninstall(dry_run: bool, what: tuple[str, ...]) -> None:
    """Take back what set-up has done on this machine, and nothing else.

    WHAT is head, node, hooks, prometheus, …; all that was set up without it. Files come back as they were before;
    those that were changed by hand since are kept and named, and so are folders that are not empty: no image, data set
    or log is ever removed. Running jobs keep what they have.
    """
    known = Record.known(ROOT)
    strange = [each for each in what if each not in known]
    if strange:
        raise SlurmFsxError(
            f"{', '.join(strange)} is not set up here", hint=f"what is: {', '.join(known) or 'nothing'}"
        )
    failed = False
    # Slurm must not look for scripts that are gone: slurm.conf first, and the tree last.
    for each in sorted(what or known, key=lambda name: (name != "hooks", name == "head")):
        if dry_run:
            for name in reversed(list(Record.read(each, ROOT).entries)):
                click.echo(f"take back {name}")
            continue
        with Record.open(each, ROOT) as record:
            outcome = undo(record, report=report)
        failed |= outcome.failed
    if not known:
        click.echo("nothing is set up here")
    if failed:
        raise SlurmFsxError("not all was taken back", hint="mend what is said above, and run the same command again")
