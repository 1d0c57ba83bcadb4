"""Taking mounts of containers away, below folders where their users may have put anything."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import time
from typing import NamedTuple

from ...shared_fs import SharedFs

_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8
_PLACE = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_END_S = 0.5


class FileSystem(NamedTuple):
    """A line of mountinfo, as far as it is needed here."""

    point: str
    device: int
    kind: str
    source: str

    @classmethod
    def all(cls) -> list[FileSystem]:
        """Give this node's mounts; nothing of them is touched."""
        found = []
        with open("/proc/self/mountinfo", "rb") as file:
            for line in file.read().splitlines():
                fields, _, tail = line.partition(b" - ")
                _, _, device, _, point, *_ = fields.split(b" ")
                major, _, minor = device.partition(b":")
                kind, source, *_ = tail.split(b" ")
                # Spaces and other special characters are written as octal numbers.
                path = os.fsdecode(point.decode("unicode_escape").encode("latin-1"))
                found.append(cls(path, os.makedev(int(major), int(minor)), kind.decode(), os.fsdecode(source)))
        return found

    @classmethod
    def overlays(cls, source: str) -> list[FileSystem]:
        """Give the mounts of a root's overlay, which has its folder as source: only root can mount such a one."""
        return [mount for mount in cls.all() if mount.kind == "overlay" and mount.source == source]

    @classmethod
    def at(cls, point: str) -> FileSystem | None:
        """Give what is mounted at a path, if anything is."""
        return next((mount for mount in reversed(cls.all()) if mount.point == point), None)


def unmount(mount: FileSystem, uid: int, gid: int, timeout_s: float) -> None:
    """Take away a mount that lies in a user's folder, and only if it is that one.

    It is found with that user's rights, since root may have none where the folder is shared (root_squash, FUSE); where
    the user has closed the way there, with root's.

    Raises:
        OSError: it cannot be reached, or is busy beyond all measure.
        SharedFsUnavailable: a file system on the way there does not answer.
    """

    def act() -> None:
        os.setegid(gid)
        os.seteuid(uid)
        try:
            fd = os.open(mount.point, _PLACE)
        except OSError:
            fd = -1
        os.seteuid(0)
        os.setegid(0)
        if fd < 0:
            fd = os.open(mount.point, _PLACE)
        # Wherever the way led, links of the user's included: only what we look for goes.
        if os.fstat(fd).st_dev != mount.device:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), mount.point)
        _umount2(f"/proc/self/fd/{fd}", _MNT_DETACH)

    SharedFs(mount.point, timeout_s).look(act)


def unmount_own(path: str) -> None:
    """Take away what is mounted in a folder of root's, if anything is."""
    try:
        _umount2(path, _MNT_DETACH | _UMOUNT_NOFOLLOW)
    except OSError as error:
        if error.errno != errno.EINVAL:  # nothing is mounted there
            raise


def remove_folder(path: str, uid: int, gid: int, timeout_s: float) -> None:
    """Remove a folder as its user, if it is empty and there."""

    def act() -> None:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
        with contextlib.suppress(OSError):
            os.rmdir(path)

    SharedFs(path, timeout_s).look(act)


def is_process(pid: int, start: int) -> bool:
    """Whether a process lives that started at that time, in clock ticks since boot."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The second field is a name in parentheses, which may hold anything; the start is the 22nd.
            state, *fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return False
    return pid > 0 and state not in (b"Z", b"X") and int(fields[18]) == start


def end_process(pid: int, start: int) -> None:
    """Wait for a process that has nothing to do any more, and after a while end it."""
    deadline = time.monotonic() + _END_S
    while is_process(pid, start):
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            return
        time.sleep(0.005)


def _umount2(path: str, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(path), flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
