"""``slurm-fsx setup uninstall``: take back what set-up has done on this machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import click

from ...config.origin import DEFAULT_PATH
from ...config.snapshot import load_snapshot
from ...errors import SlurmFsxError
from ...provision.compute_node import RECORD as NODE
from ...provision.head_node import RECORD as HEAD
from ...provision.head_node import check_mounted
from ...provision.hooks import RECORD as HOOKS
from ...provision.hooks import empty_patterns
from ...provision.node_exporter import remove_metrics
from ...provision.slurm_conf import SlurmConfMissing, find_slurm_conf, read_slurm_conf
from ...provision.steps import Line, Outcome, Record, undo
from ...shared_fs import SharedFs
from .text import ROOT, complain, report

_OF_HEAD = ("slurm_fsx_head.prom", "slurm_fsx_sync.prom")
_METRICS: dict[str, Callable[[str], bool]] = {
    HEAD: lambda name: name.startswith(_OF_HEAD),
    NODE: lambda name: not name.startswith(_OF_HEAD),
}
"""Whose files of metrics go with what."""

_RECONFIGURE = ("scontrol", "reconfigure")
_RECONFIGURE_TIMEOUT_S = 60.0


@click.command()
@click.option("--dry-run", is_flag=True, help="List what would be taken back, and do nothing.")
@click.option("--allow-unmounted", is_flag=True, help="Take the tree back even where no file system is mounted.")
@click.argument("what", nargs=-1)
def uninstall(dry_run: bool, allow_unmounted: bool, what: tuple[str, ...]) -> None:
    """Take back what set-up has done on this machine, and nothing else.

    WHAT is head, node, hooks, prometheus or cloudwatch; without it, all of them. Files come back as they were before;
    those that were changed by hand since are kept and named, and so are folders that are not empty: no image, data set
    or log is ever removed. Running jobs keep what they have.

    Where slurm.conf was edited, Slurm reads it again before the scripts that it named go.
    """
    known = Record.known(ROOT)
    strange = [each for each in what if each not in known]
    if strange:
        have = ", ".join(known) or "nothing"
        raise SlurmFsxError(f"{', '.join(strange)} is not set up here", hint=f"what is: {have}")
    if not known:
        click.echo("nothing is set up here")
        return
    failed = False
    config = load_snapshot(DEFAULT_PATH).config
    # The tree on the shared file system last.
    for each in sorted(what or known, key=lambda name: (name == "head", name)):
        if dry_run:
            for name in reversed(list(Record.read(each, ROOT).entries)):
                click.echo(f"take back {name}")
            continue
        if each == HEAD:
            shared_fs = SharedFs(config["fsx.root"], config["fsx.timeout"])
            check_mounted(config["fsx.root"], shared_fs, allow_unmounted=allow_unmounted)
        if each in _METRICS:
            remove_metrics(config["monitoring.textfile_dir"], _METRICS[each])
        with Record.open(each, ROOT) as record:
            outcome = _undo_hooks(record) if each == HOOKS else undo(record, report=report)
        failed |= outcome.failed
    if failed:
        raise SlurmFsxError("not all was taken back", hint="mend what is said above, and run the same command again")


def _undo_hooks(record: Record) -> Outcome:
    """Take slurm.conf's lines back first: a Slurm that looks for scripts that are gone drains nodes."""
    lines = undo(record, report=report, kinds=(Line.kind,))
    if lines.events:
        _reconfigure()
    outcome = undo(record, report=report)
    outcome.events += lines.events
    try:
        conf = read_slurm_conf(find_slurm_conf(ROOT, os.environ))
    except (SlurmConfMissing, OSError):
        return outcome
    for pattern in empty_patterns(conf):
        complain(
            SlurmFsxError(
                f"slurm.conf names {pattern}, and no file is there any more: Slurm may drain nodes over that",
                hint="take it out and run scontrol reconfigure, or put a script there that exits with 0",
            )
        )
    return outcome


def _reconfigure() -> None:
    command = " ".join(_RECONFIGURE)
    try:
        done = subprocess.run(_RECONFIGURE, capture_output=True, text=True, check=False, timeout=_RECONFIGURE_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        complain(SlurmFsxError(f"{command}: {error}", hint="run it before the next job starts"))
        return
    if done.returncode:
        complain(SlurmFsxError(f"{command}: {done.stderr.strip()}", hint="run it before the next job starts"))
