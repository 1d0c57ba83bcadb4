"""What the doctor found, as text for people and as a document for programs."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from ...node_sets import fold
from .findings import NOTE, OK, PROBLEM, SEVERITIES, UNKNOWN, WARNING, worst

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from .nodes import Folded, FoldedFix

FORMAT = 1
_NOT_CHECKED = "Not checked: "
_INDENT = 9
COLOURS = {PROBLEM: "red", WARNING: "yellow", UNKNOWN: "cyan", NOTE: "blue", OK: "green"}
_PLURALS = {PROBLEM: "problems", WARNING: "warnings", NOTE: "notes", UNKNOWN: "not checked"}


def format_text(
    found: Sequence[Folded],
    *,
    checks: int,
    elapsed_s: float,
    width: int,
    many: bool,
    paint: Callable[[str, str], str],
    once: Collection[str] = (),
    here: Collection[str] = (),
    always: Collection[str] = (),
) -> str:
    """Give the findings, the worst first, and a last line that sums up.

    Args:
        found: All findings.
        checks: How many checks were made on each node.
        elapsed_s: How long it took.
        width: Of the terminal, in characters.
        many: Whether nodes are named.
        paint: Gives a text in the colour of that name.
        once: The names of checks whose commands are to be run on one node, whichever found something.
        here: Those whose commands are to be run where this is printed.
        always: Those that somebody asked for in so many words: told where all is well, too.
    """
    shown = [
        each
        for each in found
        if each.finding.severity not in (OK, UNKNOWN) or (each.finding.severity == OK and each.finding.check in always)
    ]
    shown.sort(key=lambda each: -SEVERITIES.index(each.finding.severity))
    lines = []
    for finding, nodes in shown:
        where = f"{fold(nodes)}: " if many else ""
        head = f"{finding.severity:<{_INDENT}}"
        body = textwrap.wrap(
            f"{where}{finding.finding} [{finding.check}]", max(20, width - _INDENT), break_on_hyphens=False
        )
        lines.append(paint(head, COLOURS[finding.severity]) + body[0])
        lines += [" " * _INDENT + text for text in body[1:]]
        if finding.why:
            lines += textwrap.wrap(
                finding.why,
                width,
                initial_indent=" " * _INDENT,
                subsequent_indent=" " * _INDENT,
                break_on_hyphens=False,
            )
        if finding.command:
            is_here = not many or finding.check in here
            where_to = "" if is_here else " once" if finding.check in once else f" on {fold(nodes)}"
            # Never broken: it is there to be copied.
            lines.append(" " * _INDENT + paint(f"Run{where_to}: ", "bold") + finding.command)
        lines.append("")
    lines += _not_checked(found, width, many, paint)
    return "\n".join([*lines, _sum(found, checks, elapsed_s, paint)])


def format_fixes(fixes: Sequence[FoldedFix], paint: Callable[[str, str], str], many: bool) -> list[str]:
    """Say what was run, and what became of it; on which nodes, where many were asked."""
    lines = []
    for each, nodes in fixes:
        word, colour = ("done", "green") if each.is_done else ("failed", "red")
        said = f"  ({each.said})" if each.said else ""
        where = f"{fold(nodes)}: " if many else ""
        lines.append(f"{paint(f'{word:<{_INDENT}}', colour)}{where}{each.command}{said}")
    return lines


def as_document(found: Sequence[Folded], fixes: Sequence[FoldedFix], about: dict[str, Any]) -> dict[str, Any]:
    """Give everything for programs; ``docs/doctor.md`` tells what is in it."""
    return {
        "format": FORMAT,
        **about,
        "verdict": worst([each.finding for each in found]),
        "findings": [{**finding._asdict(), "nodes": list(nodes)} for finding, nodes in found],
        "fixes": [{**each._asdict(), "nodes": list(nodes)} for each, nodes in fixes],
    }


def _not_checked(found: Sequence[Folded], width: int, many: bool, paint: Callable[[str, str], str]) -> list[str]:
    """Fold what could not be looked at into a line for each reason."""
    groups: dict[tuple[str, str], list[str]] = {}
    for finding, nodes in found:
        if finding.severity == UNKNOWN:
            reason = finding.finding.removeprefix(_NOT_CHECKED)
            where = f"{fold(nodes)}: " if many else ""
            groups.setdefault((reason, where), []).append(finding.check)
    lines = []
    for (reason, where), checks in groups.items():
        wrapped = textwrap.wrap(
            f"{where}{reason} [{', '.join(checks)}]", max(20, width - _INDENT), break_on_hyphens=False
        )
        lines.append(paint(f"{UNKNOWN:<{_INDENT}}", COLOURS[UNKNOWN]) + wrapped[0])
        lines += [" " * _INDENT + line for line in wrapped[1:]]
    return [*lines, ""] if lines else []


def _sum(found: Sequence[Folded], checks: int, elapsed_s: float, paint: Callable[[str, str], str]) -> str:
    verdict = worst([each.finding for each in found])
    numbers = [
        (severity, sum(each.finding.severity == severity for each in found))
        for severity in (PROBLEM, WARNING, NOTE, UNKNOWN)
    ]
    parts = [
        f"{number} {_PLURALS[severity] if number != 1 else severity if severity != UNKNOWN else _PLURALS[severity]}"
        for severity, number in numbers
        if number
    ]
    said = ", ".join(parts) or "all is well"
    return f"{paint(said, COLOURS[verdict])} ({checks} check{'s' if checks != 1 else ''} in {elapsed_s:.1f} s)"
