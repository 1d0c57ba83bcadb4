"""What the programs of a node have told syslog."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

SEVERITIES = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")

_LINE = re.compile(
    r"(?:<(?P<priority>\d+)>)?(?:\w{3} [ \d]\d \d\d:\d\d:\d\d )?(?P<program>[^\s:\[]*)(?:\[\d+\])?: ?(?P<text>.*)"
)


class SyslogLine(NamedTuple):
    """One message."""

    node: str
    severity: str  # err, warning, info, ...
    program: str
    text: str


def read_syslog(file: Path, node: str) -> list[SyslogLine]:
    """Read what a node has logged, oldest first; nothing where there is no file yet."""
    if not file.exists():
        return []
    return [_parse(line, node) for line in file.read_text(errors="replace").splitlines()]


def _parse(line: str, node: str) -> SyslogLine:
    match = _LINE.fullmatch(line)
    if match is None:
        return SyslogLine(node, "info", "", line)
    severity = SEVERITIES[int(match["priority"] or 6) % 8]
    return SyslogLine(node, severity, match["program"], match["text"])
