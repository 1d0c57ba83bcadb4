"""``slurm-fsx monitoring sync``: keep Prometheus' targets as Slurm's nodes are."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import click

from ...config.origin import config_path
from ...config.snapshot import load_snapshot
from ...errors import SlurmFsxError
from ...monitoring.head_metrics import write_head_metrics, write_sync_metrics
from ...monitoring.sync import Sync
from ...node.journal import printable
from ...slurm.choice import choose_client
from .features import count_imports

if TYPE_CHECKING:
    from ...config.model import Config
    from ...monitoring.sync import Outcome
    from ...slurm.choice import ChosenClient


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
@click.option("--explain", is_flag=True, help="Also say how Slurm was asked, and why each file changes.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--json", "as_json", is_flag=True, help="Print an object for each pass.")
def sync(watch: bool, interval_s: float, explain: bool, dry_run: bool, as_json: bool) -> None:
    """Keep Prometheus' targets as Slurm's nodes are; for root, on the head node, by a timer or --watch.

    Adds nodes that never ran a job, tells partition and instance type of all, and removes those that Slurm has powered
    down or does not know any more. Nodes that are down stay, so that their alerts fire. If Slurm does not answer, or
    names no node, all stays as it was; most nodes gone at once is believed at the third pass that finds it so.

    --json prints: success, nodes (Slurm's), registered (nodes with a target), changes (node, act, why), failed,
    doubted and foreign (names that stay), and asked (how Slurm was asked).

    Exits with 1 if Slurm does not answer, or a file could not be written.
    """
    config = load_snapshot(config_path(os.environ)).config
    client = choose_client()
    passes = Sync(client, config)
    if not watch:
        raise SystemExit(0 if _run(passes, client, config, explain, dry_run, as_json) else 1)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    said = ""
    while not stop.is_set():
        try:
            _run(passes, client, config, explain, dry_run, as_json)
            said = ""
        except (SlurmFsxError, OSError) as error:
            if str(error) != said:  # once, and not at every pass
                click.echo(f"slurm-fsx: {printable(str(error))}; the last state stays", err=True)
            said = str(error)
        stop.wait(interval_s)


def _run(passes: Sync, client: ChosenClient, config: Config, explain: bool, dry_run: bool, as_json: bool) -> bool:
    """Make a pass, tell Prometheus of it, and print it; say whether all went well."""
    success = False
    try:
        outcome = passes.run(dry_run=dry_run)
        if not dry_run:
            registered = len(outcome.plan.targets.keys() & {node.name for node in outcome.nodes})
            imports = count_imports(config)
            write_head_metrics(config, outcome.nodes, client.jobs(), registered, imports, time.time())
        success = not outcome.failed
    finally:
        if not dry_run:
            write_sync_metrics(config, success=success)
    if as_json:
        click.echo(json.dumps(_as_object(outcome, client, dry_run)))
    else:
        _print(outcome, client, explain, dry_run)
    return success


def _print(outcome: Outcome, client: ChosenClient, explain: bool, dry_run: bool) -> None:
    changes = outcome.plan.changes if dry_run else outcome.done
    if explain:
        for line in client.explain():
            click.echo(line)
    if explain or dry_run:
        for change in changes:
            click.echo(f"{change.act} {printable(change.node)}: {printable(change.why)}")
    for change, reason in outcome.failed:
        click.echo(f"slurm-fsx: {printable(change.node)} could not be written: {printable(reason)}", err=True)
    if outcome.plan.doubted:
        names = " ".join(map(printable, outcome.plan.doubted[:10]))
        more = "" if len(outcome.plan.doubted) <= 10 else f" and {len(outcome.plan.doubted) - 10} more"
        click.echo(f"slurm-fsx: most nodes are gone from Slurm, and stay for now: {names}{more}", err=True)
    if explain:
        for name in outcome.plan.foreign:
            click.echo(f"kept {printable(name)}: it is no node of this cluster")
    would = "would be " if dry_run else ""
    click.echo(f"{len(outcome.nodes)} nodes, {len(outcome.plan.targets)} with targets, {len(changes)} {would}changed")


def _as_object(outcome: Outcome, client: ChosenClient, dry_run: bool) -> dict[str, Any]:
    changes = outcome.plan.changes if dry_run else outcome.done
    return {
        "success": not outcome.failed,
        "nodes": len(outcome.nodes),
        "registered": len(outcome.plan.targets),
        "changes": [{"node": change.node, "act": change.act, "why": change.why} for change in changes],
        "failed": {change.node: reason for change, reason in outcome.failed},
        "doubted": outcome.plan.doubted,
        "foreign": outcome.plan.foreign,
        "asked": client.name,
    }
