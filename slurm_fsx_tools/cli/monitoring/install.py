"""``slurm-fsx monitoring install``: Prometheus on the head node."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from ...config.origin import config_path
from ...config.snapshot import load_snapshot
from ...errors import SlurmFsxError, SlurmUnavailable
from ...monitoring.prometheus.configuration import PrometheusSetup, reachable
from ...node.journal import printable
from ...provision.prometheus import RECORD, answers_with_metrics, plan_prometheus, set_up_prometheus
from ...provision.steps import Record
from ...slurm.commands import CommandClient

if TYPE_CHECKING:
    from ...config.model import Config

_HAS_METRICS = (25, 11)


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what would be done, with all differences, and do nothing.")
@click.option("--force", is_flag=True, help="Replace files that somebody else wrote or changed; a backup is kept.")
@click.option("--print", "print_only", is_flag=True, help="Print what to add to a Prometheus of your own, and rules.")
def install(dry_run: bool, force: bool, print_only: bool) -> None:
    """Have Prometheus run on this head node, with every node, job and GPU in it.

    The package is installed where the system has one; configuration and rules are checked by promtool before they take
    their place. Run it again after a change of the configuration: it changes what differs, and nothing else.
    """
    config = load_snapshot(config_path(os.environ)).config
    setup = make_setup(config)
    if print_only:
        click.echo(setup.format_addition())
        click.echo(f"# {setup.rules_path}:\n{setup.format_rules()}", nl=False)
    elif dry_run:
        for change in plan_prometheus(setup, Record.read(RECORD)):
            click.echo(f"{change.verdict}: {printable(change.summary)}")
            if change.diff:
                click.echo(change.diff)
    else:
        with Record.open(RECORD) as record:
            outcome = set_up_prometheus(
                setup,
                record,
                force=force,
                report=lambda event: click.echo(f"{event.outcome}: {printable(event.text)}"),
            )
        if outcome.failed:
            raise SlurmFsxError("not all of it was done", hint="mend what is said above, and run this again")
        click.echo(
            f"Prometheus is set up for {setup.cluster}: http://{reachable(config['monitoring.prometheus_listen'])}"
        )


def make_setup(config: Config) -> PrometheusSetup:
    """Give what Prometheus' configuration depends on, as Slurm has it now."""
    client = CommandClient()
    cluster = config["cluster.name"] or client.cluster_name()
    if not cluster:
        raise SlurmUnavailable(
            "Slurm does not say what the cluster is called", hint="see scontrol ping, or set cluster.name"
        )
    return PrometheusSetup(config, cluster, os.uname().nodename.partition(".")[0], _slurm_metrics(client))


def _slurm_metrics(client: CommandClient) -> str:
    """Give where slurmctld has metrics; where it could have them, say what to do."""
    address = client.controller_address()
    if not address or client.release() < _HAS_METRICS:
        return ""
    if answers_with_metrics(address):
        return address
    click.echo(
        "slurm-fsx: this Slurm has metrics of its own, which are not switched on: put MetricsType=metrics/openmetrics"
        " into slurm.conf (and no PrivateData), restart slurmctld, and run this again",
        err=True,
    )
    return ""
