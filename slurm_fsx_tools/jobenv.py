"""Ordered operations on a job's environment, and the file that carries them from prolog to task.

The file, ``<runtime_dir>/jobs/<jobid>.env``, starts with the line ``# slurm-fsx env 1``; then one operation stands on
each line: ``[SCOPE ]VERB NAME=VALUE``, or ``[SCOPE ]unset NAME``. The SPANK plugin (``spank/env_file.c``) and the task
prolog read the same format.
"""

from __future__ import annotations

from .errors import InvalidEnvironment
from .values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

HEADER = "# slurm-fsx env 1"

VERBS = ("default", "set", "prepend", "append", "unset")

HOST = "host"
"""Scope of an operation that is left out in every container."""

LIBRARY = "library"
"""Scope of an operation that is left out in a container whose image has an NCCL of its own, or cannot see ours."""

SCOPES = ("", HOST, LIBRARY)


class Operation(NamedTuple):
    """One change to one variable; the scope is empty where it applies in every task."""

    verb: str
    name: str
    value: str = ""
    scope: str = ""


class JobEnv:
    """What happens to a job's environment, in order.

    Later operations see the effect of earlier ones, so whoever writes last has the last word, but for the user: what
    the user set in the job stays, unless somebody says ``set`` or ``unset``.
    """

    def __init__(self, operations: Iterable[Operation] = ()) -> None:
        self._operations: list[Operation] = []
        self.notes: list[str] = []
        """What an admin should read about these operations; the prolog logs it."""
        self.facts: dict[str, str] = {}
        """What metrics may say of the job: ``nccl``, the version that it gets."""
        self.extend(operations)

    def default(self, name: str, value: str, scope: str = "") -> None:
        """Set a variable only where the user left it unset.

        A default that stands already gives way to this one: a site's comes after a built-in's, and counts.
        """
        operation = Operation("default", name, value, scope)
        check(operation)
        # The first default of a variable is the one that takes effect, so the new one goes before the others.
        place = len(self._operations)
        for index in range(len(self._operations) - 1, -1, -1):
            other = self._operations[index]
            if other.name == name:
                if other.verb != "default":
                    break
                place = index
        self._operations.insert(place, operation)

    def set(self, name: str, value: str, scope: str = "") -> None:
        """Set a variable, whatever its value was."""
        self._add(Operation("set", name, value, scope))

    def prepend(self, name: str, value: str, scope: str = "") -> None:
        """Put ``:``-separated entries in front of a list; one that is there already is moved."""
        self._add(Operation("prepend", name, value, scope))

    def append(self, name: str, value: str, scope: str = "") -> None:
        """Put ``:``-separated entries behind a list; one that is there already is moved."""
        self._add(Operation("append", name, value, scope))

    def unset(self, name: str, scope: str = "") -> None:
        """Take a variable away."""
        self._add(Operation("unset", name, "", scope))

    def extend(self, operations: Iterable[Operation]) -> None:
        """Add operations behind the others, as they are.

        Raises:
            InvalidEnvironment: one of them could not be written to the file; none after it is added.
        """
        for operation in operations:
            self._add(operation)

    def note(self, text: str) -> None:
        """Say something about these operations that an admin should read."""
        self.notes.append(text)

    def state(self) -> tuple[Operation, ...]:
        """Give the operations so far, for `restore`."""
        return tuple(self._operations)

    def restore(self, state: tuple[Operation, ...]) -> None:
        """Take back every operation since `state` was taken."""
        self._operations[:] = state

    def _add(self, operation: Operation) -> None:
        check(operation)
        self._operations.append(operation)

    def __iter__(self) -> Iterator[Operation]:
        return iter(self._operations)

    def __len__(self) -> int:
        return len(self._operations)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JobEnv) and self._operations == other._operations

    __hash__ = None  # type: ignore[assignment]  # a list of operations that grows

    def __repr__(self) -> str:
        return f"JobEnv({self._operations!r})"


def check(operation: Operation) -> None:
    """Raise InvalidEnvironment for an operation that the file format cannot hold."""
    verb, name, value, scope = operation
    if verb not in VERBS:
        raise InvalidEnvironment(f"{verb!r} is no operation on a variable", hint=f"use one of {', '.join(VERBS)}")
    if scope not in SCOPES:
        raise InvalidEnvironment(f"{scope!r} is no scope of an operation", hint="use HOST, LIBRARY or none")
    if not is_variable_name(name):
        raise InvalidEnvironment(f"{name!r} is no name of a variable", hint="use letters, digits and _, no digit first")
    if "\n" in value or "\0" in value:
        raise InvalidEnvironment(f"the value of {name} holds a line break or NUL", hint="keep it on one line")
    if not value.isascii() and not _is_bytes(value):
        raise InvalidEnvironment(f"the value of {name} cannot be written as bytes", hint="decode it as os.environ does")
    if verb == "unset" and value:
        raise InvalidEnvironment(f"unset {name} has a value", hint="leave it out")


def _is_bytes(value: str) -> bool:
    try:
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape") == value
    except UnicodeEncodeError:
        return False


def is_variable_name(name: str) -> bool:
    """Whether a name is ``[A-Za-z_][A-Za-z0-9_]*``; ``isidentifier`` alone would let other alphabets in."""
    return name.isascii() and name.isidentifier()


def format_operations(operations: Iterable[Operation]) -> bytes:
    """Write operations in the file's format."""
    lines = [HEADER]
    for verb, name, value, scope in operations:
        words = f"{verb} {name}" if verb == "unset" else f"{verb} {name}={value}"
        lines.append(f"{scope} {words}" if scope else words)
    # The environment is bytes to Linux: what was no UTF-8 when Python read it goes out as it came.
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")


def parse_operations(data: bytes) -> list[Operation]:
    """Read operations from the file's format; a line that does not parse is skipped, a foreign file gives none."""
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    if lines[0] != HEADER:
        return []
    return [operation for operation in map(_parse_line, lines[1:]) if operation is not None]


def _parse_line(line: str) -> Operation | None:
    verb, _, rest = line.partition(" ")
    scope = ""
    if verb in (HOST, LIBRARY):
        scope = verb
        verb, _, rest = rest.partition(" ")
    name, equals, value = rest.partition("=")
    if verb not in VERBS or not is_variable_name(name) or "\0" in value:
        return None
    if bool(equals) == (verb == "unset"):
        return None
    return Operation(verb, name, value, scope)


def apply_operations(operations: Iterable[Operation], environment: Mapping[str, str]) -> dict[str, str]:
    """Give the environment that a task outside any container ends up with."""
    result = dict(environment)
    for verb, name, value, _ in operations:
        if verb == "set" or (verb == "default" and name not in result):
            result[name] = value
        elif verb == "unset":
            result.pop(name, None)
        elif verb in ("prepend", "append"):
            result[name] = _merge(verb, result.get(name, ""), value)
    return result


def _merge(verb: str, current: str, value: str) -> str:
    added = [entry for entry in value.split(":") if entry]
    present = [entry for entry in current.split(":") if entry]
    if verb == "append":
        present = [entry for entry in present if entry not in added]
        return ":".join(dict.fromkeys(present + added))
    return ":".join(dict.fromkeys(added + present))
