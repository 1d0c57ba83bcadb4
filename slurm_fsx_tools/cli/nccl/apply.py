"""``slurm-fsx nccl apply|apply-here``: bring running nodes to what is installed, and what that is on each."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from ...errors import InvalidName, SlurmFsxError, SlurmUnavailable
from ...node_sets import expand, fold
from ...provision.rollout import (
    AT_BOOT,
    DONE,
    FAILED,
    NOT_TRIED,
    OK,
    TO_DO,
    Answer,
    NodeResult,
    exit_code,
    gather,
    last_words,
    remember,
    roll_out,
    unfinished,
)
from ...shared_fs import SharedFs
from ...slurm.choice import choose_client
from ...slurm.commands import TIMEOUT_S
from ...slurm_state import SlurmNode
from ..containers.text import load_config, print_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ...provision.rollout import Transport

STATE_FILE = "apply.json"
_NOT_INSTALLED = 127
_MARK = "slurm-fsx-applied"
"""The key in the line of JSON by which a node's answer is told from whatever else a log-in prints."""


@click.command()
@click.option("--nodes", "node_set", metavar="NODESET", help="Only these, as n[1-3,7]; all of Slurm's unless given.")
@click.option("--failed", is_flag=True, help="Only those that earlier runs did not get done.")
@click.option("--by", type=click.Choice(["srun", "ssh"]), help="How to reach the nodes; nccl.apply_by unless given.")
@click.option(
    "--fan-out", type=click.IntRange(1, 1000), metavar="N", help="How many nodes at a time; nccl.fan_out unless given."
)
@click.option(
    "--timeout",
    type=click.FloatRange(1, 3600),
    metavar="SECONDS",
    help="Limit for one node; nccl.node_timeout unless given.",
)
@click.option("--dry-run", is_flag=True, help="Say which nodes would be reached and how, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print an object for each node.")
def apply(
    node_set: str | None,
    failed: bool,
    by: str | None,
    fan_out: int | None,
    timeout: float | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Bring running nodes to the NCCL that is installed.

    Slurm jobs need none of this: each prolog looks for itself. It is for sessions by ssh, which read
    /etc/profile.d/nccl-shared.sh, for containers (enroot's mount of FSX/nccl), and to see what each node sees. Running
    jobs and the loader's cache are left alone; doing it again changes nothing.

    By srun, nodes that are down or drained, and those that jobs fill, are not done, and named; with --failed they are
    tried again. By ssh (ClusterShell), drained and busy ones are done, too. A node that is powered off gets all this
    when it boots.

    Exits with 0 if all nodes are done, 3 if some are not, 1 if none is.
    """
    config = load_config().config
    if node_set is not None and failed:
        raise click.UsageError("--nodes and --failed exclude each other")
    state = f"{config['nccl.state_dir']}/{STATE_FILE}"
    transport = make_transport(
        by or config["nccl.apply_by"], fan_out or config["nccl.fan_out"], timeout or config["nccl.node_timeout"]
    )
    nodes = _choose(node_set, failed, state, transport)
    if not nodes:
        click.echo("no node is left to do" if failed else "Slurm has no nodes", err=True)
        return
    if dry_run:
        _print(plan(nodes, transport), as_json)
        return
    if os.geteuid() != 0:
        raise SlurmFsxError("only root can change what is in /etc on the nodes", hint="run this with sudo")
    command = [f"{sys.prefix}/bin/slurm-fsx", "nccl", "apply-here", "--json"]
    with _progress(len(nodes)) as on_result:
        results = roll_out(nodes, command, transport, read_answer, on_result)
    _print(results, as_json)
    try:
        remember(results, state)
    except OSError as error:
        click.echo(f"slurm-fsx: --failed will not know of this run: {error.filename}: {error.strerror}", err=True)
    left = [result.node for result in results if result.outcome not in DONE]
    if left and not as_json:
        click.echo(f"slurm-fsx: {len(left)} of {len(results)} nodes are not done: {fold(left)}", err=True)
        click.echo("           see above, mend them, then: slurm-fsx nccl apply --failed", err=True)
    raise SystemExit(exit_code(results))


@click.command("apply-here")
@click.option("--json", "as_json", is_flag=True, help="Print one line for the program that collects them.")
def apply_here(as_json: bool) -> None:
    """Bring this node to the NCCL that is installed: what `apply` runs on each.

    Exits with 1 if something keeps the node from being right.
    """
    from ...nccl.instance import InstanceUnknown, instance_type, remember_instance_type
    from ...nccl.on_node import apply_here as apply_to_node

    if os.geteuid() != 0:
        raise SlurmFsxError("only root can change what is in /etc", hint="run this with sudo")
    config = load_config().config
    if not instance_type(config):
        try:
            remember_instance_type(config)
        except (InstanceUnknown, OSError):
            pass  # not on EC2: the profile `auto` goes by versions alone
    shared_fs = SharedFs(config["fsx.root"], max(config["fsx.timeout"], 1.0))
    applied = apply_to_node(config, shared_fs, f"{sys.prefix}/share/slurm-fsx")
    if as_json:
        click.echo(json.dumps({_MARK: applied._asdict(), "message": applied.message}))
    else:
        click.echo(applied.message)
    raise SystemExit(1 if applied.problems else 0)


def plan(nodes: Sequence[SlurmNode], transport: Transport) -> list[NodeResult]:
    """Say what `apply` would do with each node."""
    results = []
    for node in nodes:
        reason = "" if node.is_powered_off else transport.why_not(node)
        would = f"would be reached by {transport.name}" if not reason else f"{reason}: would not be tried"
        if node.is_powered_off:
            would = "powered off: it is set up when it boots"
        outcome = AT_BOOT if node.is_powered_off else NOT_TRIED if reason else TO_DO
        results.append(NodeResult(node.name, outcome, would))
    return results


def read_answer(answer: Answer) -> NodeResult:
    """Read what `apply-here --json` printed on a node, amid whatever else its log-in prints."""
    for line in reversed(answer.output.splitlines()):
        if line.startswith("{") and _MARK in line:
            try:
                message = str(json.loads(line)["message"])
            except (ValueError, KeyError, TypeError):
                break
            return NodeResult(answer.node, OK if answer.code == 0 else FAILED, message)
    if answer.code == _NOT_INSTALLED or "No such file or directory" in answer.output:
        missing = f"{sys.prefix}/bin/slurm-fsx cannot be run there: install slurm-fsx-tools on it"
        return NodeResult(answer.node, FAILED, missing)
    return NodeResult(answer.node, FAILED, last_words(answer))


def make_transport(name: str, fan_out: int, timeout_s: float) -> Transport:
    """Give the way to reach nodes that is called ``srun`` or ``ssh``."""
    # Here, not above: each takes what the other does not need.
    if name == "ssh":
        from ...provision.ssh import Ssh

        return Ssh(fan_out, timeout_s)
    from ...provision.srun import Srun

    return Srun(fan_out, timeout_s)


def _choose(node_set: str | None, failed: bool, state: str, transport: Transport) -> list[SlurmNode]:
    """Give the nodes to do, as Slurm has them now."""
    if failed:
        left = unfinished(state)
        return _known(left, transport, False) if left else []
    return choose_nodes(node_set, transport)


def choose_nodes(node_set: str | None, transport: Transport, timeout_s: float = TIMEOUT_S) -> list[SlurmNode]:
    """Give the nodes of a set, all without one, as Slurm has them now; it is given that time to answer.

    Raises:
        InvalidName: it is no set, or Slurm has no such node.
        SlurmUnavailable: it does not answer, and is needed.
    """
    return _known(None if node_set is None else expand(node_set), transport, True, timeout_s)


def _known(
    wanted: list[str] | None, transport: Transport, is_strict: bool, timeout_s: float = TIMEOUT_S
) -> list[SlurmNode]:
    try:
        known = {node.name: node for node in choose_client(timeout_s).nodes()}
    except SlurmUnavailable:
        # Over ssh, nodes that somebody names can be reached without Slurm.
        if wanted is None or transport.name != "ssh":
            raise
        return [SlurmNode(name, "unknown to Slurm") for name in wanted]
    if wanted is None:
        return list(known.values())
    strange = [name for name in wanted if name not in known]
    if strange and is_strict:
        raise InvalidName(f"Slurm has no node {fold(strange)}", hint="see: sinfo --Node")
    return [known[name] for name in wanted if name in known]


def _print(results: Sequence[NodeResult], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([result._asdict() for result in results], indent=2))
        return
    rows = [(nodes, outcome, message) for nodes, outcome, message in gather(results)]
    print_table(("nodes", "result", "message"), rows)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[NodeResult], None]]:
    """Show on a terminal how many nodes are done and which are in trouble; elsewhere nothing."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    trouble: list[str] = []
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("nodes", total=total)

        def advance(result: NodeResult) -> None:
            if result.outcome not in DONE:
                trouble.append(result.node)
            said = f"nodes, {len(trouble)} in trouble: {fold(trouble)[:60]}" if trouble else "nodes"
            progress.update(task, advance=1, description=said)

        yield advance
