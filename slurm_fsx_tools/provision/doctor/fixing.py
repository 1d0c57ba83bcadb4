"""What ``doctor --fix`` does: it runs the very commands that findings print, where those do no harm."""

from __future__ import annotations

import shlex
import subprocess
from typing import TYPE_CHECKING, NamedTuple

from ...node.journal import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .findings import Finding

LIMIT_S = 60.0
_OWN = "slurm-fsx"


class Fixed(NamedTuple):
    """What became of a command."""

    command: str
    is_done: bool
    said: str
    """Its last words, where it failed."""


def fix(findings: Iterable[Finding], home: str, limit_s: float = LIMIT_S) -> list[Fixed]:
    """Run the safe commands of findings, each once, without a shell.

    Args:
        findings: What was found.
        home: This software's installation, whose commands are meant by ``slurm-fsx``.
        limit_s: How long one may take.
    """
    commands = dict.fromkeys(finding.command for finding in findings if finding.is_safe and finding.command)
    return [_run(command, home, limit_s) for command in commands]


def judge(fixes: Iterable[Fixed], findings: Iterable[Finding]) -> list[Fixed]:
    """Say what became of commands by what is found after them: what a command says of other things does not count."""
    left = {finding.command for finding in findings}
    return [
        Fixed(each.command, True, "")
        if each.command not in left
        else Fixed(each.command, False, each.said or "it ran, and what it should mend is as before")
        for each in fixes
    ]


def _run(command: str, home: str, limit_s: float) -> Fixed:
    words = shlex.split(command)
    if words[0] == _OWN:
        words[0] = f"{home}/bin/{_OWN}"
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        return Fixed(command, False, f"it had not ended after {limit_s:g} s")
    except OSError as error:
        return Fixed(command, False, error.strerror or "it cannot be run")
    said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
    return Fixed(command, done.returncode == 0, printable(said[-1])[:300] if said and done.returncode else "")
