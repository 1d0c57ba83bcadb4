"""Looks at the shared file system that cannot hang the process that takes them.

Any call on a hung Lustre client blocks its process in the kernel, beyond signals and timers. So each look is taken in
a child; where it does not answer in time it is left behind, and nobody looks again.
"""

from __future__ import annotations

import os
import select
import time

from . import json_text
from .errors import DeadlineExceeded, SharedFsUnavailable, SlurmFsxError
from .signals import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


_left_behind: list[int] = []
"""Children of this process that were killed, and did not die of it."""


class SharedFs:
    """The shared file system below `root`, which may be away.

    Args:
        root: Where it is mounted, e.g. ``/fsx``.
        timeout_s: How long one look may take.
    """

    def __init__(self, root: str, timeout_s: float) -> None:
        self.root = root
        self._timeout_s = timeout_s
        self._hung = False

    def try_again(self) -> None:
        """Have the next look taken, if whoever hung before has ended meanwhile: for processes that live long.

        As long as one hangs, another one would do so, too, and they would become many.
        """
        _reap()
        self._hung = bool(_left_behind)

    def look(self, function: Callable[[], Any]) -> Any:
        """Call a function in a child process, and give what it returned.

        Args:
            function: Touches files below the root; returns what json can carry. It runs in a copy of this process, so
                what it changes in memory is lost.

        Raises:
            SharedFsUnavailable: there was no answer in time, now or in an earlier look.
            OSError: as the function raised it, e.g. FileNotFoundError.
            SlurmFsxError: the function raised one, or failed otherwise.
        """
        if self._hung:
            raise SharedFsUnavailable(f"{self.root} did not answer before", hint="see the first message about it")
        try:
            return call_apart(function, self._timeout_s)
        except DeadlineExceeded:
            self._hung = True
            raise SharedFsUnavailable(
                f"{self.root} did not answer within {self._timeout_s:g} s", hint="see whether its file server is up"
            ) from None


def call_apart(function: Callable[[], Any], timeout_s: float) -> Any:
    """Call a function that may hang, where no signal would end it, in a child process; give what it returned.

    Args:
        function: Returns what json can carry. It runs in a copy of this process, so what it changes in memory is lost.
        timeout_s: How long it may take; then the child is killed, and left behind if it does not die.

    Raises:
        DeadlineExceeded: there was no answer in time.
        OSError: as the function raised it, e.g. FileNotFoundError.
        SlurmFsxError: the function raised one, or failed otherwise.
    """
    child, reader = start(function)
    try:
        answer = _read_until(reader, time.monotonic() + timeout_s)
    finally:
        os.close(reader)
    if answer is None:
        os.kill(child, SIGKILL)
        _left_behind.append(child)  # never wait for it: in a hung kernel call it does not die
        _reap()
        raise DeadlineExceeded(f"there was no answer within {timeout_s:g} s", hint="see what hangs")
    os.waitpid(child, 0)
    return unpack(answer)


def _reap() -> None:
    """Forget those left behind that have died since."""
    _left_behind[:] = [child for child in _left_behind if os.waitpid(child, os.WNOHANG)[0] == 0]


def start(function: Callable[[], Any]) -> tuple[int, int]:
    """Have a function called in a child process, for who waits for several: as `call_apart` otherwise.

    Returns:
        The child, which the caller waits for, and the pipe that its answer comes through, to be read to its end and
        given to `unpack`.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _answer(function, reader, writer)
    os.close(writer)
    return child, reader


def unpack(data: bytes) -> Any:
    """Give what the function returned, or raise what it raised."""
    if not data:
        raise SlurmFsxError("what was asked apart ended without an answer", hint="see the log for a crash")
    answer = json_text.loads(data)
    if "errno" in answer:
        raise OSError(answer["errno"], answer["text"], answer["path"])
    if "error" in answer:
        raise SlurmFsxError(answer["error"], hint=answer["hint"])
    return answer["result"]


def _answer(function: Callable[[], Any], reader: int, writer: int) -> None:
    """Run in the child, and never return."""
    try:
        os.close(reader)
        _left_behind.clear()  # they are its parent's
        # slurmd reads a prolog's output to its end: a child that stays behind must not hold it open.
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        try:
            answer: dict[str, Any] = {"result": function()}
        except OSError as error:
            answer = {"errno": error.errno, "text": error.strerror, "path": error.filename}
        except SlurmFsxError as error:
            answer = {"error": error.message, "hint": error.hint}
        except Exception as error:  # the parent must hear of it: this process has nobody else to tell
            answer = {"error": f"{type(error).__name__}: {error}", "hint": "report this: the program is wrong"}
        data = json_text.dumps(answer)
        while data:
            data = data[os.write(writer, data) :]
    finally:
        os._exit(0)


def _read_until(reader: int, deadline: float) -> bytes | None:
    """Read to the end of a pipe; None where it did not end in time."""
    chunks: list[bytes] = []
    while True:
        remaining = deadline - time.monotonic()
        if remaining <= 0 or not select.select([reader], [], [], remaining)[0]:
            return None
        chunk = os.read(reader, 1 << 16)
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)
