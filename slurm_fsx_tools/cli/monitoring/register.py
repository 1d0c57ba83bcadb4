"""``slurm-fsx monitoring register``: tell Prometheus what this node exports."""

from __future__ import annotations

import os

import click

from ...config.origin import config_path
from ...config.snapshot import load_snapshot
from ...errors import SlurmFsxError
from ...job import Node
from ...monitoring.on_node.around_job import forget_vanished
from ...monitoring.on_node.boot import register_anew
from ...node.journal import printable
from ...node.prolog import merge
from ...plugins import load_plugins
from ...shared_fs import SharedFs
from ...slurm.choice import choose_client


@click.command()
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for exporters that are still starting.",
)
@click.option("--node", "node_name", metavar="NAME", help="Slurm's name of this node; the host's name unless told.")
def register(wait_s: float, node_name: str | None) -> None:
    """Ask this node's exporters for their metrics, and register those that answer; for root, at boot.

    Exporters that are still starting are waited for, --wait seconds in all. One that was registered before and gives no
    answer stays registered; one that no plugin offers any more is taken away. Metrics of jobs that did not outlive a
    reboot are taken back.

    Exits with 1 if no exporter answers.
    """
    snapshot = load_snapshot(config_path(os.environ))
    config = snapshot.config
    if not config["monitoring.enabled"]:
        click.echo("monitoring.enabled is false: nothing is registered", err=True)
        return
    try:
        forget_vanished(config)
    except (OSError, SlurmFsxError) as error:
        _complain("metrics of jobs that are gone", error)
    node = Node.from_environment(os.environ)
    # What is started at boot is not told by slurmd; prologs are, and must find the same labels.
    cluster = config["cluster.name"] or node.cluster or choose_client().cluster_name()
    node = node._replace(name=node_name or node.name, cluster=cluster)
    if not cluster:
        raise SlurmFsxError("nobody tells the cluster's name", hint="set cluster.name in the configuration")
    plugins = load_plugins(snapshot, _complain)
    exporters = merge(plugins.call_each("slurm_fsx_exporters", node=node, config=config))
    done = register_anew(node, exporters, config, SharedFs(config["fsx.root"], config["fsx.timeout"]), wait_s)
    for exporter in done.answering:
        click.echo(f"{node.name}: {printable(exporter.name)} answers at port {exporter.port}", err=True)
    for name, problem in done.silent.items():
        click.echo(f"slurm-fsx: {node.name}: {printable(name)}: {printable(problem)}", err=True)
    click.echo("registered" if done.written else "nothing has changed", err=True)
    raise SystemExit(0 if done.answering else 1)


def _complain(what: str, error: BaseException) -> None:
    click.echo(f"slurm-fsx: skipped: {what}: {printable(str(error))}", err=True)
