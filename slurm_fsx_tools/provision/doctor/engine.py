"""Gathers facts, each in a child that may hang, and has the checks judge them: in bounded time, whatever hangs."""

from __future__ import annotations

import errno
import os
import selectors
import signal
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from ...errors import SlurmFsxError
from ...shared_fs import start, unpack
from .findings import OK, UNKNOWN, WARNING, Facts, Finding, Missing, Trouble, Unseen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .findings import Check, Context, Probe

LIMIT_S = 8.0
"""For all probes together: what is left of ten seconds is for starting and printing."""

FAN_OUT = 16
ROLES = "roles"
"""The probe that tells which kind of node this is."""

HUNG = Trouble(
    WARNING,
    "{what} gave no answer within {limit:g} s.",
    "What hangs here hangs for jobs and prologs, too, up to their own limits; checks that need it were not made.",
)
FAILED = Trouble(UNKNOWN, "Not checked: {reason}.", "What was not seen may be wrong.")
WRONG = Trouble(
    UNKNOWN,
    "Not checked: the check itself failed ({reason}).",
    "This is a mistake in the program: please report it.",
)
COMMON = (HUNG, FAILED, WRONG)
"""What every check may say besides its own troubles."""


class _Run(NamedTuple):
    probe: Probe
    child: int
    deadline_s: float
    chunks: list[bytes]


def diagnose(
    checks: Sequence[Check],
    probes: Mapping[str, Probe],
    context: Context,
    *,
    more: Sequence[str] = (),
    limit_s: float = LIMIT_S,
) -> tuple[list[Finding], Facts]:
    """Make checks; each gives at least one finding, in the given order. What was gathered for them comes along.

    Args:
        checks: Which.
        probes: All that there are, by name.
        context: Where to look.
        more: Probes that are wanted besides.
        limit_s: How long gathering may take altogether.
    """
    needed = {*more, *(name for check in checks for name in check.probes)}
    if any(check.role for check in checks):
        needed.add(ROLES)
    facts = gather(_with_their_own(needed, probes), context, limit_s)
    findings: list[Finding] = []
    told: set[str] = set()
    for check in checks:
        findings += [finding._replace(check=check.name) for finding in _make(check, probes, context, facts, told)]
    return findings, facts


def gather(probes: Sequence[Probe], context: Context, limit_s: float = LIMIT_S) -> Facts:
    """Have probes gather their facts, side by side; what does not end in time is ended, or left behind."""
    end_s = time.monotonic() + limit_s
    found: dict[str, Any] = {}
    waiting = list(probes)
    runs: dict[int, _Run] = {}
    with selectors.DefaultSelector() as selector:
        try:
            while waiting or runs:
                waiting = _start(waiting, runs, found, context, selector, end_s)
                now_s = time.monotonic()
                next_s = min((run.deadline_s for run in runs.values()), default=now_s)
                for key, _ in selector.select(max(0.0, next_s - now_s)):
                    _read(key.fd, runs, found, selector)
                for reader, run in list(runs.items()):
                    if time.monotonic() >= run.deadline_s:
                        _leave(reader, runs, selector)
                        found[run.probe.name] = Missing(
                            f"{_what(run.probe, context)} gave no answer within {run.probe.limit_s:g} s", run.probe.name
                        )
        finally:
            for reader in list(runs):
                _leave(reader, runs, selector)
    return Facts(found)


def _with_their_own(names: set[str], probes: Mapping[str, Probe]) -> list[Probe]:
    """Give probes with all that they come after, in the table's order."""
    needed: set[str] = set()
    open_names = list(names)
    while open_names:
        name = open_names.pop()
        if name not in needed:
            needed.add(name)
            open_names += probes[name].after
    return [probe for name, probe in probes.items() if name in needed]


def _start(
    waiting: list[Probe],
    runs: dict[int, _Run],
    found: dict[str, Any],
    context: Context,
    selector: selectors.BaseSelector,
    end_s: float,
) -> list[Probe]:
    """Start what can be started; give what still waits."""
    left = []
    for probe in waiting:
        lacking = [found[name] for name in probe.after if isinstance(found.get(name), Missing)]
        if lacking:
            found[probe.name] = lacking[0]
        elif len(runs) >= FAN_OUT or not all(name in found for name in probe.after):
            left.append(probe)
        else:
            child, reader = start(_alone(probe, context, Facts({name: found[name] for name in probe.after})))
            runs[reader] = _Run(probe, child, min(end_s, time.monotonic() + probe.limit_s), [])
            selector.register(reader, selectors.EVENT_READ)
    if left and not runs:
        # What waited for something that was found missing in this very round.
        return _start(left, runs, found, context, selector, end_s)
    return left


def _alone(probe: Probe, context: Context, facts: Facts) -> Any:
    """Have a probe lead a process group, so that programs it started end with it."""

    def act() -> Any:
        os.setsid()
        return probe.gather(context, facts)

    return act


def _read(reader: int, runs: dict[int, _Run], found: dict[str, Any], selector: selectors.BaseSelector) -> None:
    run = runs[reader]
    chunk = os.read(reader, 1 << 16)
    if chunk:
        run.chunks.append(chunk)
        return
    selector.unregister(reader)
    os.close(reader)
    del runs[reader]
    os.waitpid(run.child, 0)
    try:
        found[run.probe.name] = unpack(b"".join(run.chunks))
    except OSError as error:
        where = error.filename or run.probe.what
        may_not = error.errno in (errno.EACCES, errno.EPERM) and os.geteuid() != 0
        said = f"this user may not look at {where}; run this as root" if may_not else f"{where}: {error.strerror}"
        found[run.probe.name] = Missing(said)
    except SlurmFsxError as error:
        found[run.probe.name] = Missing(str(error))


def _leave(reader: int, runs: dict[int, _Run], selector: selectors.BaseSelector) -> None:
    """End a child and what it started, without waiting: in a hung kernel call it does not die."""
    run = runs.pop(reader)
    selector.unregister(reader)
    os.close(reader)
    try:
        os.killpg(run.child, signal.SIGKILL)
    except ProcessLookupError:  # it has not come so far as to lead a group
        os.kill(run.child, signal.SIGKILL)
    os.waitpid(run.child, os.WNOHANG)


def _make(check: Check, probes: Mapping[str, Probe], context: Context, facts: Facts, told: set[str]) -> list[Finding]:
    if check.role and not facts.missing(ROLES) and check.role not in facts[ROLES]:
        return [Finding("", OK, f"This is no {check.role} node.")]
    missing = [why for name in check.probes if (why := facts.missing(name)) is not None]
    hung = [name for name in dict.fromkeys(why.hung for why in missing) if name and name not in told]
    told.update(hung)
    try:
        found = check.judge(context, facts)
    except Unseen as error:
        # Told once: the other checks that need the same name it as their reason.
        return [HUNG.found(what=_what(probes[name], context), limit=probes[name].limit_s) for name in hung] or [
            FAILED.found(reason=error.message)
        ]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        return [WRONG.found(reason=f"{type(error).__name__}: {error}")]
    return found or [Finding("", OK, f"{check.about}: yes.")]


def _what(probe: Probe, context: Context) -> str:
    return probe.what.format(root=context.config["fsx.root"])
