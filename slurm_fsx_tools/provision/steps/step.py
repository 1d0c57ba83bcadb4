"""What a step of set-up is, and what can be said of one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ...errors import NotHere

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .record import Record

CHANGE = "change"
"""Not yet as it should be."""

CHANGED = "changed"
REMOVED = "removed"
KEPT = "kept"
"""Somebody else's work, or ours that was changed by hand: left as it is."""

SKIPPED = "skipped"
"""Not possible on this machine."""

FAILED = "failed"


@dataclass(frozen=True)
class Change:
    """What a step would change."""

    summary: str
    """One line, e.g. ``write /etc/prometheus/prometheus.yml``."""

    diff: str = ""
    """As ``diff -u`` writes it; empty where there is no text to compare."""

    verdict: str = CHANGE
    """`CHANGE`; `KEPT` where it is done with ``force`` alone; `SKIPPED`, `FAILED` where it cannot be done."""

    step: str = ""
    """Name of the step; `plan` fills it in."""

    @property
    def conflict(self) -> bool:
        """Whether somebody else's work would be replaced."""
        return self.verdict == KEPT


class Step(Protocol):
    """One thing that should be so on a machine."""

    kind: str
    """How the record names its class."""

    @property
    def name(self) -> str:
        """What it is about, once in a list of steps: ``file /etc/prometheus/prometheus.yml``."""

    def check(self, record: Record) -> Change | None:
        """Say what would change; None where all is as it should be.

        Raises:
            NotHere: the machine has no use for the step.
            OSError, SlurmFsxError: it cannot be seen.
        """

    def apply(self, record: Record) -> None:
        """Make it so, after `check` has found a change; first say in the record what will be ours.

        Raises:
            NotHere, OSError, SlurmFsxError: it was not done; whoever reads the place sees it as it was.
        """

    def undo(self, record: Record) -> str:
        """Take back what the record says was ours.

        Returns:
            What was kept, and why; empty where nothing is left.
        """


@dataclass(frozen=True)
class Withheld:
    """A step that cannot be taken now; what the record has of it stays."""

    name: str
    reason: str
    hint: str = ""
    keeps: bool = True
    """Whether nothing is retired in this run: it may be what this step, if only it could be looked at, stands for."""

    kind = "withheld"

    def check(self, record: Record) -> Change | None:
        raise NotHere(self.reason, self.hint)

    def apply(self, record: Record) -> None:
        raise NotHere(self.reason, self.hint)

    def undo(self, record: Record) -> str:
        return ""


@dataclass(frozen=True)
class Event:
    """What became of one step."""

    outcome: str
    """`CHANGED`, `REMOVED`, `KEPT`, `SKIPPED` or `FAILED`."""

    step: str
    text: str


@dataclass
class Outcome:
    """What became of all the steps that were not as they should be."""

    events: list[Event] = field(default_factory=list)

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def of(self, outcome: str) -> list[Event]:
        """Give the steps with one outcome."""
        return [event for event in self.events if event.outcome == outcome]

    @property
    def failed(self) -> bool:
        return bool(self.of(FAILED))
