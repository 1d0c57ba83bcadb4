"""``slurm-fsx monitoring sync``: keep Prometheus' targets as Slurm's nodes are."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ...config.origin import config_path
from ...config.snapshot import load_snapshot
from ...errors import SlurmFsxError
from ...monitoring.on_head.head_metrics import write_head_metrics, write_sync_metrics
from ...monitoring.on_head.sync import Sync
from ...node.journal import printable
from ...shared_fs import SharedFs
from ...slurm.choice import choose_client
from .features import count_imports

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...config.model import Config
    from ...monitoring.on_head.sync import Outcome
    from ...slurm.choice import ChosenClient

PASS_S = 90.0
"""The first pass of a large cluster writes every file; the next one goes on where one was cut off."""

_NAMED = 10


class Told(NamedTuple):
    """What a pass has to say."""

    success: bool
    lines: list[str]
    complaints: list[str]


@click.command()
@click.option("--watch", is_flag=True, help="Go on until stopped, instead of one pass.")
@click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(1),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long --watch pauses between two passes.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(1),
    default=PASS_S,
    show_default=True,
    metavar="SECONDS",
    help="How long a pass may take: it is left behind where the shared file system hangs.",
)
@click.option("--explain", is_flag=True, help="Also say how Slurm was asked, and why each file changes.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--json", "as_json", is_flag=True, help="Print an object for each pass.")
def sync(watch: bool, interval_s: float, timeout_s: float, explain: bool, dry_run: bool, as_json: bool) -> None:
    """Keep Prometheus' targets as Slurm's nodes are; for root, on the head node, by a timer or --watch.

    Adds nodes that never ran a job, tells partition and instance type of all, and removes those that Slurm has powered
    down or does not know any more. Nodes that are down stay, so that their alerts fire. If Slurm does not answer, or
    names no node, all stays as it was; most nodes gone at once is believed at the third pass that finds it so.

    --json prints: success, nodes (Slurm's), registered (nodes with a target), changes (node, act, why), failed,
    doubted, disputed and foreign (names that stay), and asked (how Slurm was asked).

    Exits with 1 if Slurm or the shared file system does not answer, a file could not be written, or another cluster
    writes it, too.
    """
    config = load_snapshot(config_path(os.environ)).config
    shared_fs = SharedFs(config["fsx.root"], timeout_s)
    client = choose_client()
    passes = Sync(client, config)

    def run() -> bool:
        return _run(shared_fs, config, dry_run, lambda: _pass(passes, client, config, explain, dry_run, as_json))

    if not watch:
        raise SystemExit(0 if run() else 1)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    said = ""
    while not stop.is_set():
        try:
            run()
            said = ""
        except (SlurmFsxError, OSError) as error:
            if str(error) != said:  # once, and not at every pass
                click.echo(f"slurm-fsx: {printable(str(error))}; the last state stays", err=True)
            said = str(error)
        stop.wait(interval_s)
        shared_fs.try_again()


def _run(shared_fs: SharedFs, config: Config, dry_run: bool, make_pass: Callable[[], Told]) -> bool:
    """Have a pass made by a child, which may hang alone; print what it tells, and say whether all went well."""
    told = Told(False, [], [])
    try:
        told = Told(*shared_fs.look(make_pass))
    finally:
        if not dry_run:
            write_sync_metrics(config, success=told.success)
    for line in told.complaints:
        click.echo(f"slurm-fsx: {line}", err=True)
    for line in told.lines:
        click.echo(line)
    return told.success


def _pass(passes: Sync, client: ChosenClient, config: Config, explain: bool, dry_run: bool, as_json: bool) -> Told:
    """Make a pass, and tell Prometheus of it."""
    outcome = passes.run(dry_run=dry_run)
    if not dry_run:
        registered = len(outcome.plan.targets.keys() & {node.name for node in outcome.nodes})
        write_head_metrics(config, outcome.nodes, client.jobs(), registered, count_imports(config), time.time())
    if as_json:
        return Told(outcome.is_whole, [json.dumps(_as_object(outcome, client, dry_run))], [])
    return Told(outcome.is_whole, _lines(outcome, client, explain, dry_run), _complaints(outcome))


def _lines(outcome: Outcome, client: ChosenClient, explain: bool, dry_run: bool) -> list[str]:
    changes = outcome.plan.changes if dry_run else outcome.done
    lines = client.explain() if explain else []
    if explain or dry_run:
        lines += [f"{change.act} {change.node}: {change.why}" for change in changes]
    if explain:
        lines += [f"kept {name}: it is no node of this cluster" for name in outcome.plan.foreign]
    would = "would be " if dry_run else ""
    lines.append(f"{len(outcome.nodes)} nodes, {len(outcome.plan.targets)} with targets, {len(changes)} {would}changed")
    return [printable(line) for line in lines]


def _complaints(outcome: Outcome) -> list[str]:
    lines = [f"{change.node} could not be written: {reason}" for change, reason in outcome.failed]
    if outcome.plan.doubted:
        lines.append(f"most nodes are gone from Slurm, and stay for now: {_some(outcome.plan.doubted)}")
    if outcome.plan.disputed:
        lines.append(
            "another cluster on this file system has nodes of the same names, and writes their files, too: "
            f"{_some(outcome.plan.disputed)}; give one of the two other names; if that one is gone, remove the files"
        )
    return [printable(line) for line in lines]


def _some(names: list[str]) -> str:
    more = "" if len(names) <= _NAMED else f" and {len(names) - _NAMED} more"
    return " ".join(names[:_NAMED]) + more


def _as_object(outcome: Outcome, client: ChosenClient, dry_run: bool) -> dict[str, Any]:
    changes = outcome.plan.changes if dry_run else outcome.done
    return {
        "success": outcome.is_whole,
        "nodes": len(outcome.nodes),
        "registered": len(outcome.plan.targets),
        "changes": [{"node": change.node, "act": change.act, "why": change.why} for change in changes],
        "failed": {change.node: reason for change, reason in outcome.failed},
        "doubted": outcome.plan.doubted,
        "disputed": outcome.plan.disputed,
        "foreign": outcome.plan.foreign,
        "asked": client.name,
    }
