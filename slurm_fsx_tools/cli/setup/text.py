"""What the commands of set-up share: options, plans and reports."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from ...errors import SlurmFsxError
from ...node.journal import printable
from ...provision.plugstack import AUTO, RUNTIMES
from ...provision.slurm_conf import SlurmConfMissing, find_slurm_conf, read_slurm_conf
from ...provision.steps import Record, apply, plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ...provision.slurm_conf import SlurmConf
    from ...provision.steps import Change, Event, Outcome, Step

ROOT = "/"

dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Print what would be done, with all differences, and do nothing."
)
force_option = click.option(
    "--force", is_flag=True, help="Replace files that others wrote or changed, too; a backup of each is made."
)
runtime_option = click.option(
    "--runtime",
    type=click.Choice(RUNTIMES),
    default=AUTO,
    show_default=True,
    help="What runs containers: Pyxis where plugstack.conf has it, else what is installed.",
)


def carry_out(
    what: str, make_steps: Callable[[Record], Sequence[Step]], *, dry_run: bool, force: bool
) -> Outcome | None:
    """Take steps, or print the plan and give None."""
    if dry_run:
        record = Record.read(what, ROOT)
        print_plan(what, plan(make_steps(record), record))
        return None
    with Record.open(what, ROOT) as record:
        return apply(make_steps(record), record, force=force, report=report)


def print_plan(what: str, changes: Iterable[Change]) -> None:
    """Print what would be done, in order; `what` is the record's name."""
    empty = True
    for change in changes:
        empty = False
        _say(change.verdict, change.summary)
        for line in change.diff.split("\n") if change.diff else ():
            click.echo(f"    {printable(line.expandtabs(4))}")
    if empty:
        click.echo(f"{what}: nothing is to be done")


def report(event: Event) -> None:
    """Print what became of a step."""
    _say(event.outcome, event.text)


def _say(outcome: str, text: str) -> None:
    """Print a text that may have lines to be copied."""
    first, *others = text.split("\n")
    click.echo(f"{outcome}: {printable(first)}")
    for line in others:
        click.echo(printable(line))


def finish(outcome: Outcome) -> None:
    """Say how it ended; raise where something failed."""
    kept = outcome.of("kept")
    if kept:
        click.echo(f"slurm-fsx: {len(kept)} kept as found; see the differences: --dry-run; replace: --force", err=True)
    if outcome.failed:
        failed = len(outcome.of("failed"))
        raise SlurmFsxError(
            f"{failed} step{'s' if failed > 1 else ''} failed, the others are done",
            hint="mend what is said above, and run the same command again",
        )
    if not outcome.events:
        click.echo("all is as it should be")


def slurm_conf_here(*, copies: bool = False) -> SlurmConf | None:
    """Give slurm.conf, or a copy of slurmctld's if that will do; or say why there is none, and give None."""
    try:
        return read_slurm_conf(find_slurm_conf(ROOT, os.environ, copies=copies))
    except SlurmConfMissing as error:
        complain(error)
    except OSError as error:
        click.echo(f"slurm-fsx: {error.filename}: {error.strerror}", err=True)
    return None


def complain(error: SlurmFsxError) -> None:
    """Say on stderr what is wrong, and go on."""
    click.echo(f"slurm-fsx: {printable(error.message)}", err=True)
    if error.hint:
        click.echo(f"           {printable(error.hint)}", err=True)


def options(*given: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add options to a command, in the order in which they are listed."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(given):
            command = option(command)
        return command

    return add
