"""What ``doctor --node`` does: each node's own doctor, equal findings of many folded into one, and what differs."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from ...node_sets import fold
from ..rollout import AT_BOOT, BUSY, FAILED, OK, NodeResult, last_words
from .basics import plugstack
from .findings import NOTE, PROBLEM, SEVERITIES, WARNING, Extra, Finding, Probe, Trouble, Unseen
from .fixing import Fixed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ..rollout import Answer
    from .findings import Context, Facts

MARK = "slurm-fsx-doctor"
"""The key in the line of JSON by which a node's answer is told from whatever else a log-in prints."""

CLOCK_S = 5.0
"""How far a node's clock may be from this one's, by what a log-in may take: far below what munge allows."""

_NOT_INSTALLED = 127

UNREACHED = Trouble(
    WARNING,
    "{reason}.",
    "Nothing is known of it. By ssh it can be asked as long as it runs.",
    "slurm-fsx doctor --node {node} --by ssh",
)
NO_LOG_IN = UNREACHED._replace(
    why="Nothing is known of it. See whether it runs, and whether root may log in there by ssh without a password.",
    command="",
)
NOT_THERE = UNREACHED._replace(
    severity=PROBLEM,
    text="slurm-fsx cannot be run there.",
    why="Its jobs start without anything of this software. Install it there: docs/install.md says how.",
    command="",
)
OFF = Trouble(NOTE, "powered off.", "It runs its set-up when it boots.")
DIFFERS = Trouble(
    WARNING,
    "{what} is not the same everywhere: {values}.",
    "What works on one node fails on another; a SPANK plugin is loaded by its own Slurm release alone.",
    "slurm-fsx doctor --node {nodes} --json",
)
CONF_DIFFERS = DIFFERS._replace(
    severity=PROBLEM,
    text="{what} is not the same file everywhere: {values}.",
    why="Slurm wants it to be: nodes then disagree on prologs, ports and plugins. Copy the right one there, or have "
    "slurmctld hand it out (configless).",
    command="",
    source="https://slurm.schedmd.com/slurm.conf.html",
)
CLOCK_DIFFERS = Trouble(
    WARNING,
    "The clock of {node} is {seconds:+.0f} s from this node's.",
    "munge refuses messages that are 5 minutes off, and locks and logs cannot be compared.",
    "slurm-fsx doctor --node {node} clock",
    "https://github.com/dun/munge/wiki/Man-3-munge",
)
EXTRAS = (
    Extra("nodes-reached", "each node could be asked", "--node", (UNREACHED, NO_LOG_IN, NOT_THERE, OFF)),
    Extra("nodes-alike", "nodes have the same versions and files", "--node", (DIFFERS, CONF_DIFFERS)),
    Extra("nodes-clocks", "nodes' clocks agree with this one's", "--node", (CLOCK_DIFFERS,)),
)
_REACHED, _ALIKE, _CLOCKS = (extra.name for extra in EXTRAS)

_VERSIONS = ("slurm-fsx", "Slurm", "Pyxis", "enroot", "the SPANK plugin's Slurm")
_FILES = ("slurm.conf", "plugstack.conf", "the configuration")


class NodeReport(NamedTuple):
    """What a node's own doctor said."""

    node: str
    findings: list[Finding]
    identity: dict[str, str]
    """Versions, and checksums of files that must be the same everywhere."""

    behind_s: float
    """How far its clock was behind this one's when it answered, the answer's way included."""

    fixes: tuple[Fixed, ...] = ()
    """What it ran, and what became of that."""


class Folded(NamedTuple):
    """A finding of some nodes."""

    finding: Finding
    nodes: list[str]


class FoldedFix(NamedTuple):
    """What some nodes ran, with the same outcome."""

    fix: Fixed
    nodes: list[str]


def identity(version: str, facts: Facts) -> dict[str, str]:
    """Give what must be the same on all nodes, as far as it was seen."""
    found = {"slurm-fsx": version}
    for key, name, read in _SEEN:
        try:
            value = read(facts[name])
        except (Unseen, KeyError):
            continue
        if value:
            found[key] = value
    return found


def format_line(
    node: str, findings: Sequence[Finding], known: Mapping[str, str], now_s: float, fixes: Iterable[Fixed] = ()
) -> str:
    """Give the line that a node's doctor prints for the one that asked it."""
    document = {
        MARK: 1,
        "node": node,
        "now_s": now_s,
        "identity": dict(known),
        # What is fine need not travel.
        "findings": [finding._asdict() for finding in findings if finding.severity != "ok"],
        "checks": sorted({finding.check for finding in findings}),
        "fixes": [fix._asdict() for fix in fixes],
    }
    return json.dumps(document)


def reader(reports: list[NodeReport], clock: Callable[[], float]) -> Callable[[Answer], NodeResult]:
    """Give what reads each node's answer: reports are added to the list.

    Args:
        reports: Filled as answers come.
        clock: Seconds since 1970.
    """

    def read(answer: Answer) -> NodeResult:
        for line in reversed(answer.output.splitlines()):
            if not line.startswith("{") or MARK not in line:
                continue
            try:
                document = json.loads(line)
                findings = [Finding(**each) for each in document["findings"]]
                if any(finding.severity not in SEVERITIES for finding in findings):
                    break
                known = {str(key): str(value) for key, value in document["identity"].items()}
                fixes = tuple(Fixed(**each) for each in document.get("fixes", ()))
                behind_s = clock() - float(document["now_s"])
                reports.append(NodeReport(answer.node, findings, known, behind_s, fixes))
            except (ValueError, KeyError, TypeError, AttributeError):
                break
            return NodeResult(answer.node, OK)
        if answer.code == _NOT_INSTALLED or "No such file or directory" in answer.output:
            return NodeResult(answer.node, FAILED, "slurm-fsx cannot be run there")
        return NodeResult(answer.node, FAILED, last_words(answer))

    return read


def combine(reports: Iterable[NodeReport], results: Sequence[NodeResult], by: str = "srun") -> list[Folded]:
    """Put together what nodes found, what became of those that were not reached, and what differs between them.

    Reports come as nodes answer; they are taken in the order of the results, so that the same is told the same way.

    Args:
        reports: Of nodes that answered.
        results: Of all nodes.
        by: How they were asked: ``srun`` or ``ssh``.
    """
    place = {result.node: number for number, result in enumerate(results)}
    reports = sorted(reports, key=lambda report: place.get(report.node, len(place)))
    groups: dict[Finding, list[str]] = {}
    for report in reports:
        for finding in report.findings:
            groups.setdefault(_general(finding, report.node), []).append(report.node)
    found = [Folded(_particular(finding, nodes), nodes) for finding, nodes in groups.items()]
    found += _unreached(results, by)
    return [*found, *_differences(reports), *_clocks(reports)]


def combine_fixes(reports: Iterable[NodeReport], results: Sequence[NodeResult]) -> list[FoldedFix]:
    """Put together what nodes ran, in the order of the results."""
    place = {result.node: number for number, result in enumerate(results)}
    groups: dict[Fixed, list[str]] = {}
    for report in sorted(reports, key=lambda report: place.get(report.node, len(place))):
        for fix in report.fixes:
            groups.setdefault(fix, []).append(report.node)
    return [FoldedFix(fix, nodes) for fix, nodes in groups.items()]


def _general(finding: Finding, node: str) -> Finding:
    """Take a node's own name out of its finding, so that equal ones of many nodes are equal."""
    if len(node) < 2:
        return finding
    texts = {key: getattr(finding, key).replace(node, "%h") for key in ("finding", "why", "command")}
    return finding._replace(**texts)


def _particular(finding: Finding, nodes: Sequence[str]) -> Finding:
    name = fold(nodes)
    texts = {key: getattr(finding, key).replace("%h", name) for key in ("finding", "why", "command")}
    return finding._replace(**texts)


def _unreached(results: Iterable[NodeResult], by: str) -> list[Folded]:
    groups: dict[tuple[str, str], list[str]] = {}
    for result in results:
        if result.outcome != OK:
            # A node's own name would keep equal ones apart.
            message = result.message.replace(result.node, "it") if len(result.node) > 1 else result.message
            groups.setdefault((result.outcome, message), []).append(result.node)
    found = []
    for (outcome, message), nodes in groups.items():
        unreached = NO_LOG_IN if by == "ssh" else UNREACHED
        trouble = OFF if outcome == AT_BOOT else NOT_THERE if "cannot be run" in message else unreached
        # What roll-outs say of busy nodes is advice for those that remember whom they missed.
        reason = "jobs fill it" if outcome == BUSY else message or outcome
        finding = trouble.found(node=fold(nodes), reason=reason)
        found.append(Folded(finding._replace(check=_REACHED), nodes))
    return found


def _differences(reports: Sequence[NodeReport]) -> list[Folded]:
    found = []
    for what in (*_VERSIONS, *_FILES):
        groups: dict[str, list[str]] = {}
        for report in reports:
            groups.setdefault(report.identity.get(what, "none"), []).append(report.node)
        if len(groups) < 2:
            continue
        # The rarest ones are what somebody has to look at.
        rows = sorted(groups.items(), key=lambda each: -len(each[1]))
        # Of a checksum, so much does.
        values = [f"{value[:12] if what in _FILES else value} on {fold(nodes)}" for value, nodes in rows]
        odd = [node for _, nodes in rows[1:] for node in nodes]
        trouble = CONF_DIFFERS if what in _FILES[:2] else DIFFERS
        finding = trouble.found(
            what=f"{what[0].upper()}{what[1:]}" if what.startswith("the") else what, values=values, nodes=fold(odd)
        )
        found.append(Folded(finding._replace(check=_ALIKE), odd))
    return found


def _clocks(reports: Sequence[NodeReport]) -> list[Folded]:
    return [
        Folded(CLOCK_DIFFERS.found(node=report.node, seconds=-report.behind_s)._replace(check=_CLOCKS), [report.node])
        for report in reports
        if abs(report.behind_s) > CLOCK_S
    ]


def _gather_checksums(context: Context, facts: Facts) -> Any:
    """Give checksums of the files that must be the same on all nodes."""
    paths = {
        "slurm.conf": [facts["slurm"]["conf"]],
        "plugstack.conf": plugstack(facts).files,
        "the configuration": [context.config.path],
    }
    found = {}
    for name, files in paths.items():
        digest = hashlib.sha256()
        seen = False
        for path in filter(None, files):
            try:
                with open(path, "rb") as file:
                    digest.update(file.read())
                seen = True
            except FileNotFoundError:
                continue
        found[name] = digest.hexdigest() if seen else ""
    return found


def _first_of(word: str, key: str) -> Callable[[Any], str]:
    return lambda plugins: next((str(seen[key]) for name, seen in plugins.items() if word in name), "")


_SEEN: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("Slurm", "slurm-version", str),
    ("Pyxis", "plugins", _first_of("pyxis", "pyxis")),
    ("the SPANK plugin's Slurm", "plugins", _first_of("slurm_fsx", "built")),
    ("enroot", "enroot", lambda seen: str(seen["version"])),
    *((name, "checksums", lambda seen, name=name: str(seen[name])) for name in _FILES),
)
PROBES = (Probe("checksums", "configuration files", _gather_checksums, after=("slurm", "plugstack")),)
NEEDS = ("slurm-version", "plugins", "enroot", "checksums")
"""The probes whose facts `identity` goes by."""
