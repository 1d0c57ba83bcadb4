"""``slurm-fsx doctor``: what is wrong with this node, or with many, why it counts, and what mends it."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import sys
import time
from typing import TYPE_CHECKING

import click

from ..config.origin import config_path
from ..config.snapshot import load_snapshot
from ..provision.doctor import live, nodes
from ..provision.doctor.checks import CHECKS, PROBES, choose
from ..provision.doctor.engine import diagnose
from ..provision.doctor.findings import EXIT_CODES, Context, worst
from ..provision.doctor.fixing import fix, judge
from ..provision.doctor.nodes import Folded, FoldedFix
from ..provision.doctor.page import format_page
from ..provision.doctor.report import as_document, format_fixes, format_text
from ..version import described

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..provision.doctor.findings import Check, Facts, Finding

_NODE_S = 30.0
_SLURM_S = 8.0
_WIDEST = 120


@click.command()
@click.argument("names", nargs=-1, metavar="[CHECK]...")
@click.option("--node", "node_set", metavar="NODESET", help="Run on these nodes, as n[1-3,7], and compare them.")
@click.option(
    "--by", type=click.Choice(["srun", "ssh"]), help="With --node, how to reach them; nccl.apply_by unless given."
)
@click.option("--fix", "is_fixing", is_flag=True, help="Run the commands that do no harm, and look again.")
@click.option("--live", "is_live", is_flag=True, help="Also run a short job, and see what its task gets.")
@click.option("--json", "as_json", is_flag=True, help="Print an object: docs/doctor.md has its keys.")
@click.option("--page", is_flag=True, help="Print the page docs/doctor.md: every check, and all it can find.")
@click.option("--line", is_flag=True, hidden=True, help="Print one line, for the doctor that asked this node.")
def doctor(
    names: tuple[str, ...],
    node_set: str | None,
    by: str | None,
    is_fixing: bool,
    is_live: bool,
    as_json: bool,
    page: bool,
    line: bool,
) -> None:
    """Find out what is wrong, by all checks or by the CHECKs that are named (docs/doctor.md has them).

    Looks at this node, the shared file system, Slurm's settings, containers, NCCL and metrics, and says of each trouble
    why it counts and which command mends it. Takes some seconds at most, whatever hangs; with --node or --live longer.

    Exits with 0 if all is well, 1 if there are warnings, 2 if there are problems.
    """
    if page:
        click.echo(format_page(), nl=False)
        return
    begun_s = time.monotonic()
    checks = choose(names)
    fixes: list[FoldedFix] = []
    context = _context()
    if node_set is not None:
        if is_live:
            raise click.UsageError("--live and --node exclude each other")
        found, fixes = _ask_nodes(context, node_set, by, [*names, *(["--fix"] if is_fixing else [])])
    else:
        findings, facts = _diagnose(checks, context, is_live, line)
        if is_fixing:
            done = fix(findings, context.home)
            if done:
                findings, facts = _diagnose(checks, context, is_live, line)
                fixes = [FoldedFix(each, [context.node]) for each in judge(done, findings)]
        if line:
            known = nodes.identity(described(), facts)
            ran = [each for each, _ in fixes]
            click.echo(nodes.format_line(context.node, findings, known, time.time(), ran))
            return
        found = [Folded(finding, [context.node]) for finding in findings]
    elapsed_s = time.monotonic() - begun_s
    if as_json:
        about = {
            "node": "" if node_set else context.node,
            "version": described(),
            "user": _user(),
            "elapsed_s": round(elapsed_s, 3),
        }
        click.echo(json.dumps(as_document(found, fixes, about), indent=2))
    else:
        _print(found, fixes, len(checks), elapsed_s, node_set is not None)
    raise SystemExit(EXIT_CODES[worst([each.finding for each in found])])


def _context() -> Context:
    # What is wrong with it is found by a check of its own.
    config = load_snapshot(config_path(os.environ), on_failure=lambda *_: None).config
    host = os.uname().nodename.partition(".")[0]
    return Context(
        config,
        node=os.environ.get("SLURMD_NODENAME") or host,
        host=host,
        home=sys.prefix,
        now_s=time.time(),
    )


def _diagnose(
    checks: Sequence[Check], context: Context, is_live: bool, is_for_others: bool
) -> tuple[list[Finding], Facts]:
    needs = (*(live.NEEDS if is_live else ()), *(nodes.NEEDS if is_for_others else ()))
    findings, facts = diagnose(checks, PROBES, context, more=needs)
    if is_live:
        findings += live.look(context, facts)
    return findings, facts


def _ask_nodes(
    context: Context, node_set: str, by: str | None, arguments: Sequence[str]
) -> tuple[list[Folded], list[FoldedFix]]:
    from ..provision.rollout import roll_out
    from .nccl.apply import choose_nodes, make_transport

    transport = make_transport(by or context.config["nccl.apply_by"], context.config["nccl.fan_out"], _NODE_S)
    chosen = choose_nodes(node_set, transport, _SLURM_S)
    reports: list[nodes.NodeReport] = []
    command = [f"{context.home}/bin/slurm-fsx", "doctor", "--line", *arguments]
    results = roll_out(chosen, command, transport, nodes.reader(reports, time.time), lambda _: None)
    return nodes.combine(reports, results, transport.name), nodes.combine_fixes(reports, results)


def _print(found: Sequence[Folded], fixes: Sequence[FoldedFix], checks: int, elapsed_s: float, many: bool) -> None:
    width = min(_WIDEST, shutil.get_terminal_size().columns) if sys.stdout.isatty() else _WIDEST
    for text in format_fixes(fixes, _paint, many):
        click.echo(text)
    if fixes:
        click.echo()
    click.echo(
        format_text(
            found,
            checks=checks,
            elapsed_s=elapsed_s,
            width=width,
            many=many,
            paint=_paint,
            once={check.name for check in CHECKS if check.is_of_cluster},
            here={extra.name for extra in nodes.EXTRAS},
            always={live.EXTRA.name},
        )
    )


def _paint(text: str, colour: str) -> str:
    if "NO_COLOR" in os.environ:
        return text
    return click.style(text, bold=True) if colour == "bold" else click.style(text, fg=colour)


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
