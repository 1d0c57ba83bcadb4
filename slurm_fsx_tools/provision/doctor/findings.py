"""What a check is, and what it can find: each trouble is written down once, for the command and for its page."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, NamedTuple

from ...config.model import Config
from ...errors import SlurmFsxError
from ...node.journal import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

OK = "ok"
NOTE = "note"
UNKNOWN = "unknown"
WARNING = "warning"
PROBLEM = "problem"
SEVERITIES = (OK, NOTE, UNKNOWN, WARNING, PROBLEM)
"""From nothing to worst."""

EXIT_CODES = {OK: 0, NOTE: 0, UNKNOWN: 0, WARNING: 1, PROBLEM: 2}

HEAD = "head"
COMPUTE = "compute"


class Finding(NamedTuple):
    """What a check found on one node."""

    check: str
    severity: str
    """One of `SEVERITIES`."""

    finding: str
    """A sentence, with the value, file or line that it is about."""

    why: str = ""
    """Why it counts; empty where nothing is wrong."""

    command: str = ""
    """What to do: a line for the shell, or empty where no single command does it."""

    source: str = ""
    """Where the fact or threshold behind it can be read."""

    is_safe: bool = False
    """Whether ``--fix`` runs the command."""


class Trouble(NamedTuple):
    """Something that a check can find."""

    severity: str
    text: str
    """A sentence with ``{placeholders}``."""

    why: str
    command: str = ""
    """With the same placeholders, each of which becomes one word of the shell, or several where it is a list."""

    source: str = ""
    is_safe: bool = False
    """Whether the command does no harm whenever it is run: it is then no shell's line, but one program's."""

    def found(self, *, is_safe: bool | None = None, **values: Any) -> Finding:
        """Give the finding, with its placeholders filled.

        Args:
            is_safe: Overrides the trouble's own word.
            values: Text or numbers; a list becomes several words.
        """
        shown = {name: _shown(value) for name, value in values.items()}
        words = {name: _quoted(value) for name, value in values.items()}
        return Finding(
            "",
            self.severity,
            printable(self.text.format(**shown)),
            printable(self.why.format(**shown)),
            printable(self.command.format(**words)),
            self.source,
            self.is_safe if is_safe is None else is_safe and bool(self.command),
        )


class Unseen(SlurmFsxError):
    """A fact that could not be gathered, so that a check cannot be made."""


class Missing(NamedTuple):
    """Why a fact is not there."""

    reason: str
    hung: str = ""
    """The probe that did not answer in time: this one, or one that had to answer before; empty where none hung."""


class Facts:
    """What was gathered, by the probes' names."""

    def __init__(self, found: Mapping[str, Any]) -> None:
        self._found = dict(found)

    def __getitem__(self, name: str) -> Any:
        """Give a fact.

        Raises:
            Unseen: there is none.
        """
        value = self._found[name]
        if isinstance(value, Missing):
            raise Unseen(value.reason)
        return value

    def missing(self, name: str) -> Missing | None:
        """Say why a fact is not there; None where it is."""
        value = self._found[name]
        return value if isinstance(value, Missing) else None


class Context(NamedTuple):
    """Where the doctor looks."""

    config: Config
    node: str = ""
    """This machine's name, as Slurm would have it: up to the first dot."""

    host: str = ""
    """Its name as a host, up to the first dot."""

    home: str = "/opt/slurm-fsx"
    """This software's installation."""

    etc: str = "/etc"
    proc: str = "/proc"
    dev: str = "/dev"
    now_s: float = 0.0
    """Seconds since 1970."""


class Probe(NamedTuple):
    """Gathers one fact, in a process of its own."""

    name: str
    what: str
    """What it asks, for the message that it hangs: ``{root}`` is the shared file system."""

    gather: Callable[[Context, Facts], Any]
    """Gives what json can carry. Facts are those of `after`."""

    limit_s: float = 3.0
    after: tuple[str, ...] = ()
    """Probes that must have answered before; without their answer this one is not started."""


class Check(NamedTuple):
    """One question, and all that can come of it."""

    name: str
    about: str
    """What is looked at, as the end of a sentence that starts with "Whether"."""

    probes: tuple[str, ...]
    judge: Callable[[Context, Facts], list[Finding]]
    """Touches nothing; gives one of `troubles` for each thing that is wrong, none where all is well.

    Raises:
        Unseen: a fact that it needs is not there.
    """

    troubles: tuple[Trouble, ...]
    role: str = ""
    """`HEAD` or `COMPUTE` where it counts on such nodes alone."""

    is_of_cluster: bool = False
    """Whether what it is about is the same on all nodes, so that its commands are to be run once."""


class Extra(NamedTuple):
    """What an option makes the doctor look at besides the checks."""

    name: str
    about: str
    """As for a `Check`."""

    option: str
    troubles: tuple[Trouble, ...]


def worst(findings: Sequence[Finding]) -> str:
    """Give the gravest severity among findings."""
    return max((finding.severity for finding in findings), key=SEVERITIES.index, default=OK)


def _shown(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value


def _quoted(value: Any) -> str:
    words = value if isinstance(value, (list, tuple)) else [value]
    return " ".join(shlex.quote(str(word)) for word in words)
