"""``slurm-fsx setup uninstall``: take back what set-up has done on this machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable

import click

from ...config.origin import DEFAULT_PATH
from ...config.snapshot import load_snapshot
from ...errors import SlurmFsxError, SlurmUnavailable
from ...provision.compute_node import RECORD as NODE
from ...provision.head_node import RECORD as HEAD
from ...provision.head_node import check_mounted
from ...provision.hooks import RECORD as HOOKS
from ...provision.hooks import empty_patterns
from ...provision.node_exporter import remove_metrics
from ...provision.plugstack import is_plugin_step
from ...provision.slurm_conf import SlurmConfMissing, find_slurm_conf, read_slurm_conf
from ...provision.steps import Line, Outcome, Record, undo
from ...shared_fs import SharedFs
from ...slurm.commands import CommandClient
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
@click.option("--despite-jobs", is_flag=True, help="Take the plugin away while jobs run: nodes may drain.")
@click.argument("what", nargs=-1)
def uninstall(dry_run: bool, allow_unmounted: bool, despite_jobs: bool, what: tuple[str, ...]) -> None:
    """Take back what set-up has done on this machine, and nothing else.

    WHAT is head, node, hooks, prometheus or cloudwatch; without it, all of them. Files come back as they were before;
    those that were changed by hand since are kept and named, and so are folders that are not empty: no image, data set
    or log is ever removed.

    While jobs run, the plugin's lines in plugstack.conf stay, and so does all else: it is the plugin that unmounts a
    job's container before Pyxis removes it, and where that fails, Slurm drains the node.

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
    if not (dry_run or despite_jobs):
        _refuse_while_jobs_run(what or known)
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


def _refuse_while_jobs_run(records: Iterable[str]) -> None:
    """Refuse to take the plugin away from under jobs.

    Raises:
        SlurmFsxError: jobs run, or nobody knows whether any do.
    """
    if not any(is_plugin_step(name) for each in records for name in Record.read(each, ROOT).entries):
        return
    anyway = "or say --despite-jobs"
    try:
        jobs = CommandClient().active_jobs()
    except SlurmUnavailable as error:
        raise SlurmFsxError(
            f"nobody knows whether jobs run: {error.message}", hint=f"{error.hint}, {anyway}"
        ) from error
    if jobs:
        some = ", ".join(map(str, sorted(jobs)[:5])) + (", ..." if len(jobs) > 5 else "")
        raise SlurmFsxError(
            f"jobs run ({some}): without the plugin, the end of one with a container drains its node",
            hint=f"wait for them (scontrol update PartitionName=NAME State=DRAIN lets no more start), {anyway}",
        )


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
