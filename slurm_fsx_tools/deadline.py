"""A limit on how long a piece of code may take, by timer."""

from __future__ import annotations

from .errors import DeadlineExceeded
from .signals import ITIMER_REAL, SIGALRM, setitimer, signal


class Limit:
    """Raise DeadlineExceeded inside a ``with`` block that outlasts its time.

    Works in the main thread only, does not nest, and cannot end a system call that the kernel does not interrupt, as a
    look at a hung Lustre: `SharedFs.look` is for those.

    Args:
        seconds: How long the block may take.
        what: What is being done, for the message.
    """

    def __init__(self, seconds: float, what: str) -> None:
        self._seconds = seconds
        self._what = what

    def __enter__(self) -> None:
        signal(SIGALRM, self._expire)
        setitimer(ITIMER_REAL, self._seconds)

    def __exit__(self, *_: object) -> None:
        setitimer(ITIMER_REAL, 0)

    def _expire(self, *_: object) -> None:
        raise DeadlineExceeded(f"{self._what} took longer than {self._seconds:g} s")
