"""``slurm-fsx monitoring cloudwatch``: a node's logs and metrics to Amazon CloudWatch."""

from __future__ import annotations

import os

import click

from ... import parallelcluster
from ...config.origin import config_path
from ...config.snapshot import load_snapshot
from ...errors import ConfigError, SlurmFsxError
from ...monitoring.cloudwatch.agent import CONTROL, CloudWatchAgent
from ...monitoring.cloudwatch.configuration import (
    COMPUTE,
    HEAD,
    NODE_TYPES,
    SYSLOG_FILES,
    Node,
    Others,
    cloudwatch_config,
)
from ...node.journal import printable
from ...provision.cloudwatch import PATH, RECORD, cloudwatch_steps
from ...slurm.commands import CommandClient
from ..setup.text import carry_out, dry_run_option, finish, force_option

_KINDS = {parallelcluster.HEAD: HEAD, parallelcluster.COMPUTE: COMPUTE}


@click.command()
@click.option(
    "--node-type", type=click.Choice(NODE_TYPES), help="What this node is, where ParallelCluster does not say."
)
@click.option("--print", "print_only", is_flag=True, help="Print the configuration, and do nothing.")
@dry_run_option
@force_option
@click.option(
    "--agent", "control", default=CONTROL, show_default=True, metavar="PATH", help="The agent's control program."
)
def cloudwatch(node_type: str | None, print_only: bool, dry_run: bool, force: bool, control: str) -> None:
    """Have this node's CloudWatch agent send logs and metrics.

    What to send is appended to the configurations that the agent has already, such as ParallelCluster's; what those
    collect is left out. Run it again after a change of theirs or of ours.
    """
    agent = CloudWatchAgent(control)
    config = load_snapshot(config_path(os.environ)).config
    cfnconfig = parallelcluster.read_cfnconfig()
    kind = node_type or _KINDS.get(cfnconfig.get("cfn_node_type", ""))
    if kind is None:
        raise ConfigError(
            "nothing says what this node is", hint=f"add --node-type {' or --node-type '.join(NODE_TYPES)}"
        )
    node = Node(
        kind,
        os.uname().nodename.partition(".")[0],
        config["cluster.name"] or parallelcluster.cluster_name(cfnconfig) or CommandClient().cluster_name(),
        next((path for path in SYSLOG_FILES if os.path.exists(path)), ""),
        agent.version(),
    )
    rendered = cloudwatch_config(node, config, Others.read(agent.others(PATH)))
    for note in rendered.notes:
        click.echo(f"slurm-fsx: {printable(note)}", err=True)
    steps = cloudwatch_steps(rendered, agent)
    if print_only:
        click.echo(rendered.text(), nl=False)
        return
    outcome = carry_out(RECORD, lambda _record: steps, dry_run=dry_run, force=force)
    if outcome is None:
        return
    finish(outcome)
    if not agent.has(PATH):
        raise SlurmFsxError(
            "the CloudWatch agent does not know the configuration", hint="mend what is said above, and run this again"
        )
    click.echo(f"the CloudWatch agent sends this {kind} node's logs and metrics: {PATH}")
