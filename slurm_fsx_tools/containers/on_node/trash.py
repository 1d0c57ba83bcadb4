"""Deleting what containers wrote: it is a user's tree, deleted by root, and may be huge."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from typing import TYPE_CHECKING

from ...files import move

if TYPE_CHECKING:
    from collections.abc import Callable

DEEPEST = 32
"""A user's folders may be deeper than a process may have files open: what lies deeper comes up first."""


def empty_trash(path: str, seconds: float, clock: Callable[[], float] = time.monotonic) -> bool:
    """Delete all that lies in a folder of root's, or as much as there is time for.

    Only folders' own handles are used, and no link or mount is followed. Others may delete at the same time. An entry
    that cannot be deleted keeps none of the others.

    Args:
        path: The folder; it stays.
        seconds: How long it may take.
        clock: Gives seconds; only differences count.

    Returns:
        Whether the folder is empty now.

    Raises:
        OSError: something cannot be deleted, of several the first; the rest is, as far as there was time.
    """
    deadline = clock() + seconds
    try:
        top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        deletion = _Deletion(top, lambda: clock() > deadline)
        failures: dict[str, OSError] = {}
        # Again, as long as something came up from the depth.
        while names := [name for name in os.listdir(top) if name not in failures]:
            for name in names:
                try:
                    if not deletion.delete(name, top, 0):
                        return False
                except OSError as error:
                    failures[name] = error
        if failures:
            raise next(iter(failures.values()))
        return True
    finally:
        os.close(top)


class _Deletion:
    def __init__(self, top: int, is_late: Callable[[], bool]) -> None:
        self._top = top
        self._is_late = is_late
        self._device = os.fstat(top).st_dev
        self._count = 0

    def delete(self, name: str, folder: int, depth: int) -> bool:
        """Delete a file or tree; False where the time is over."""
        if self._is_late():
            return False
        try:
            os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno not in (errno.EISDIR, errno.EPERM):
                raise
        else:
            return True
        try:
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        except FileNotFoundError:
            return True
        try:
            if os.fstat(inner).st_dev != self._device:
                raise OSError(errno.EBUSY, "something is mounted there", name)
            for entry in os.listdir(inner):
                if depth < DEEPEST:
                    if not self.delete(entry, inner, depth + 1):
                        return False
                else:
                    self._bring_up(entry, inner)
        finally:
            os.close(inner)
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(name, dir_fd=folder)
        return True

    def _bring_up(self, name: str, folder: int) -> None:
        self._count += 1
        with contextlib.suppress(FileNotFoundError):
            move(name, f"deep.{os.getpid()}.{time.monotonic_ns()}.{self._count}", folder, self._top)
