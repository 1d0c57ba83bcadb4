"""Plans, applies and undoes steps; one that fails does not keep the others from being done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import NotHere, SlurmFsxError
from .file import File, Line
from .folder import Folder, Link
from .placing import is_staged
from .program import UNITS, Command, Packages, Service, settle_units
from .step import CHANGED, FAILED, KEPT, REMOVED, SKIPPED, Change, Event, Outcome, Withheld

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .record import Record
    from .step import Step

_FROM_ENTRY: dict[str, Callable[[dict[str, Any]], Step]] = {
    File.kind: lambda entry: File(entry["path"], b""),
    Line.kind: lambda entry: Line(entry["path"], entry["line"], key=entry["key"]),
    Folder.kind: lambda entry: Folder(entry["path"]),
    Link.kind: lambda entry: Link(entry["path"], ""),
    Packages.kind: lambda entry: Packages((), entry["title"]),
    Service.kind: lambda entry: Service(entry["unit"]),
    Command.kind: lambda entry: Command(entry["title"], (), lambda _record: True),
}


def plan(steps: Iterable[Step], record: Record, *, retire: bool = True) -> list[Change]:
    """Say what `apply` would do, step by step; nothing is changed.

    Args:
        steps: In the order in which they are taken.
        record: As `Record.read` gives it.
        retire: As for `apply`.
    """
    steps = list(steps)
    changes = []
    for step in steps:
        change = _look(step, record)
        if change is not None:
            changes.append(change)
    if retire:
        changes += [Change(f"take back {name}", step=name) for name in _retired(steps, record)]
    return changes


def apply(
    steps: Iterable[Step],
    record: Record,
    *,
    force: bool = False,
    report: Callable[[Event], None] = lambda _event: None,
    retire: bool = True,
) -> Outcome:
    """Take the steps that are to be taken.

    Somebody else's work, or ours that was changed by hand since, is kept and reported.

    Args:
        steps: In the order in which they are taken.
        record: As `Record.open` gives it.
        force: Whether what would be kept is replaced instead; a backup of it is made first.
        report: Told of each step that something became of.
        retire: Whether steps that the record has, and this list has not, are taken back: an older release has made
            them, or other options. So a step that cannot be taken now is in the list all the same, and raises NotHere.

    Returns:
        What became of the steps that were not as they should be.
    """
    steps = list(steps)
    outcome = Outcome()
    before = dict(record.entries)

    def tell(event: Event) -> None:
        outcome.events.append(event)
        report(event)

    for step in steps:
        change = _look(step, record)
        if change is None:
            continue
        if change.verdict in (FAILED, SKIPPED) or (change.conflict and not force):
            tell(Event(change.verdict, step.name, change.summary))
            continue
        try:
            step.apply(record)
        except NotHere as error:
            tell(Event(SKIPPED, step.name, str(error)))
        except (OSError, SlurmFsxError) as error:
            tell(Event(FAILED, step.name, _explain(step.name, error)))
        else:
            tell(Event(CHANGED, step.name, change.summary))
    if retire:
        for name in _retired(steps, record):
            tell(_undo(name, record))
    _settle(record, before, outcome, tell)
    return outcome


def undo(
    record: Record, *, report: Callable[[Event], None] = lambda _event: None, kinds: Iterable[str] = ()
) -> Outcome:
    """Take back what the record has, the last step first; what was changed by hand since is kept and reported.

    A step that fails stays in the record.

    Args:
        record: As `Record.open` gives it.
        report: Told of each step.
        kinds: Only steps of these kinds, e.g. ``line``; all without.
    """
    outcome = Outcome()
    kinds = tuple(kinds)
    before = dict(record.entries)

    def tell(event: Event) -> None:
        outcome.events.append(event)
        report(event)

    for name in reversed([name for name, entry in record.entries.items() if not kinds or entry["kind"] in kinds]):
        tell(_undo(name, record))
    _settle(record, before, outcome, tell)
    return outcome


def _look(step: Step, record: Record) -> Change | None:
    try:
        change = step.check(record)
    except NotHere as error:
        return Change(str(error), verdict=SKIPPED, step=step.name)
    except (OSError, SlurmFsxError) as error:
        return Change(_explain(step.name, error), verdict=FAILED, step=step.name)
    return Change(change.summary, change.diff, change.verdict, step.name) if change else None


def _retired(steps: Sequence[Step], record: Record) -> list[str]:
    if any(isinstance(step, Withheld) and step.keeps for step in steps):
        return []
    wanted = {step.name for step in steps}
    return [name for name in reversed(list(record.entries)) if name not in wanted]


def _undo(name: str, record: Record) -> Event:
    entry = record.entries[name]
    if entry["kind"] not in _FROM_ENTRY:
        return Event(FAILED, name, f"a step of kind {entry['kind']!r} is not known; use the release that made it")
    try:
        kept = _FROM_ENTRY[entry["kind"]](entry).undo(record)
    except (OSError, SlurmFsxError) as error:
        return Event(FAILED, name, _explain(name, error))
    return Event(KEPT, name, kept) if kept else Event(REMOVED, name, f"took back {name}")


def _settle(record: Record, before: dict[str, dict[str, Any]], outcome: Outcome, tell: Callable[[Event], None]) -> None:
    """Have systemd run by the files that there are now; `before` is what the record had."""
    done = {event.step for event in outcome if event.outcome in (CHANGED, REMOVED)}
    if not any(name.startswith(f"{File.kind} {UNITS}") for name in done):
        return
    # Who was started by us is stopped; who ran before goes on by what it had then.
    restart = [
        entry["unit"]
        for name, entry in before.items()
        if name in done and name not in record.entries and entry.get("watches") and not entry.get("started")
    ]
    try:
        settle_units(record, restart)
    except (OSError, SlurmFsxError) as error:
        tell(Event(FAILED, "units of systemd", _explain("units of systemd", error)))


def _explain(name: str, error: Exception) -> str:
    """Say why a step failed, by its name: the file that an error names may be one on the way there."""
    if not isinstance(error, OSError):
        return str(error)
    file = str(error.filename or "")
    where = "" if not file or file in name or is_staged(file) else f"{file}: "
    return f"{name}: {where}{error.strerror}"
