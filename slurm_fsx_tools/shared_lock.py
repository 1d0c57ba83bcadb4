"""Locks that hold across nodes on a shared file system, and that a dead owner does not keep.

A lock is a lease: files ``NAME.1``, ``NAME.2``, … in one folder, of which the highest number, its generation, counts.
It names its owner, who touches it as long as it lives. Whoever makes the next generation, which can be made only once,
has the lock, and may do so where the highest one is empty (released), where its owner is known to be dead (same
kernel, process gone), or where it was not touched for long. That is measured by the waiter's own clock alone: clocks
of nodes differ. Numbers never start again, so an owner that was asleep can see that it is one no longer.

Where flock(2) holds across nodes as well, ``NAME`` is locked by it too, for as long: then a lease whose owner had
that lock is known to be dead as soon as the lock is free, and a slow owner is never robbed. Nodes that mount the same
folder differently still exclude each other, by the lease.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import LockLost, LockTimeout, UntrustedFile
from .files import OTHERS_MAY_WRITE, read_all, remove
from .flock import flock_holds
from .process import is_running, kernel, started_at

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

HEARTBEAT_S = 5.0
BEATS_TO_STALE = 6
"""How many heartbeats must fail to come before an owner of another node counts as dead."""

POLL_S = 0.5
_LIMIT_BYTES = 1 << 16


class Owner(NamedTuple):
    """Who has a lock, for messages."""

    host: str
    pid: int
    since_s: float
    """Seconds since 1970, by the owner's clock."""


def try_hold(path: str, heartbeat_s: float = HEARTBEAT_S) -> SharedLock | None:
    """Take a lock if it is free; None where somebody has it.

    A single look cannot tell that an owner on another node is dead: whoever tries again and again keeps a `Candidate`.

    Raises:
        OSError: the lock's folder is missing or cannot be written to.
        UntrustedFile: somebody else could have written what is there.
    """
    with Candidate(path, heartbeat_s) as candidate:
        return candidate.try_hold()


def hold(
    path: str,
    *,
    timeout_s: float | None = None,
    on_wait: Callable[[Owner], None] | None = None,
    poll_s: float = POLL_S,
    heartbeat_s: float = HEARTBEAT_S,
) -> SharedLock:
    """Take a lock, waiting for it.

    Args:
        path: In a folder that exists, and that only its owner can write to.
        timeout_s: How long to wait; without it, for ever.
        on_wait: Told of each owner that is waited for, once.
        poll_s: How long to wait between two looks, give or take a half: waiters on many nodes do not march in step.
        heartbeat_s: How often the lock is touched while it is held; others wait `BEATS_TO_STALE` times as long for it.

    Raises:
        LockTimeout: somebody still had it at the end.
        OSError, UntrustedFile: as for `try_hold`.
    """
    end = None if timeout_s is None else time.monotonic() + timeout_s
    told: Owner | None = None
    with Candidate(path, heartbeat_s) as candidate:
        while True:
            lock = candidate.try_hold()
            if lock is not None:
                return lock
            owner = candidate.owner
            if owner is not None and owner != told:
                told = owner
                if on_wait is not None:
                    on_wait(owner)
            pause_s = jittered(poll_s)
            if end is not None:
                left_s = end - time.monotonic()
                if left_s <= 0:
                    by = f"process {owner.pid} on {owner.host}" if owner else "another process"
                    raise LockTimeout(f"{path} was still held by {by} after {timeout_s:g} s", hint="try again later")
                pause_s = min(pause_s, left_s)
            time.sleep(pause_s)


def read_owner(path: str) -> Owner | None:
    """Give who has a lock, as far as its files say; None where it is free, or was never held.

    Raises:
        OSError, UntrustedFile: as for `try_hold`.
    """
    with Candidate(path) as candidate:
        candidate.look()
        return candidate.owner


def jittered(seconds: float) -> float:
    """Give a time between a half and one and a half of this one, at random."""
    return seconds * (0.5 + int.from_bytes(os.urandom(2), "little") / 65535)


class Candidate:
    """Somebody who wants a lock, and tries again and again; it remembers what it saw of the owner.

    Args:
        path: As for `hold`.
        heartbeat_s: As for `hold`.
        flock: Whether flock(2) holds across nodes; without it, the mount's type and options say.

    Raises:
        OSError, UntrustedFile: as for `try_hold`.
    """

    def __init__(self, path: str, heartbeat_s: float = HEARTBEAT_S, flock: bool | None = None) -> None:
        self.path = path
        self.owner: Owner | None = None
        """Who had the lock at the last look."""
        folder, self._name = os.path.split(path)
        self._heartbeat_s = heartbeat_s
        self._sign: tuple[int, ...] = ()
        self._seen_s = 0.0
        self._silent_s = 0.0
        self._fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._folder = os.fstat(self._fd)
            if self._folder.st_mode & OTHERS_MAY_WRITE:
                raise UntrustedFile(
                    f"{folder} can be written by others than its owner", hint=f"run: chmod go-w {folder}"
                )
            self._flock = flock_holds(self._fd) if flock is None else flock
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> Candidate:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def try_hold(self) -> SharedLock | None:
        """Take the lock if it is free or its owner is dead; None otherwise.

        Call it more often than its owner's heart beats: silence counts only as far as this candidate was listening, so
        that a file system that was away for a while takes no lock from anybody.
        """
        gate = -1
        if self._flock:
            gate = self._open(self._name, os.O_RDWR | os.O_CREAT)
            try:
                fcntl.flock(gate, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(gate)
                self.look()
                return None
        lock = None
        try:
            lock = self._succeed(gate)
        finally:
            if lock is None and gate >= 0:
                os.close(gate)
        return lock

    def look(self) -> tuple[int, dict[str, Any]]:
        """Give the highest generation, 0 for none, and what it says, nothing if it is released; note its signs of life.

        Raises:
            OSError, UntrustedFile: as for `try_hold`.
        """
        lease: dict[str, Any] = {}
        sign: tuple[int, ...] = ()
        while True:
            generation = max(self._generations(), default=0)
            if not generation:
                break
            try:
                # Opened anew each time: NFS clients ask the server what changed when a file is opened.
                fd = self._open(f"{self._name}.{generation}", os.O_RDONLY)
            except FileNotFoundError:
                continue  # it was succeeded twice meanwhile
            try:
                status = os.fstat(fd)
                lease = _parse(read_all(fd, self.path, _LIMIT_BYTES))
            finally:
                os.close(fd)
            sign = (generation, status.st_ino, status.st_mtime_ns, status.st_size)
            break
        now_s = time.monotonic()
        if sign == self._sign:
            self._silent_s += min(now_s - self._seen_s, lease.get("heartbeat_s", HEARTBEAT_S))
        else:
            self._sign, self._silent_s = sign, 0.0
        self._seen_s = now_s
        self.owner = Owner(lease["host"], lease["pid"], lease["since_s"]) if lease else None
        return generation, lease

    def _succeed(self, gate: int) -> SharedLock | None:
        generation, lease = self.look()
        if lease and not self._is_dead(lease, gate):
            return None
        token = os.urandom(8).hex()
        temporary = f".{self._name}.{token}"
        fd = self._open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            os.write(fd, json.dumps(_describe_self(token, gate >= 0, self._heartbeat_s)).encode())
            os.fsync(fd)
            # Once more, now that this client has changed the folder itself: NFS clients may have shown an old listing.
            if max(self._generations(), default=0) != generation:
                self._give_up(fd, temporary)
                return None
            mine = f"{self._name}.{generation + 1}"
            try:
                os.link(temporary, mine, src_dir_fd=self._fd, dst_dir_fd=self._fd)
            except (FileExistsError, FileNotFoundError):  # succeeded, or tidied away, by somebody who was faster
                if not self._is_same(mine, fd):  # an NFS server may have done what its lost answer said
                    self._give_up(fd, temporary)
                return None
            known = self._generations()
            if max(known) > generation + 1:
                # We were asleep, and made a number that had come and gone.
                remove_at(mine, self._fd)
                self._give_up(fd, temporary)
                return None
        except BaseException:
            self._give_up(fd, temporary)
            raise
        # The last but one stays: who lists the folder while names come and go still finds one of the two.
        for old in known:
            if old < generation:
                remove_at(f"{self._name}.{old}", self._fd)
        for left in self._names():
            if left.startswith(f".{self._name}.") and _is_token(left[len(self._name) + 2 :]):
                remove_at(left, self._fd)
        self.owner = None
        return SharedLock(self.path, os.dup(self._fd), generation + 1, fd, gate, self._heartbeat_s)

    def _give_up(self, fd: int, temporary: str) -> None:
        os.close(fd)
        remove_at(temporary, self._fd)

    def _is_dead(self, lease: dict[str, Any], gate: int) -> bool:
        if gate >= 0 and lease["flock"]:
            return True
        if lease["kernel"] and lease["kernel"] == kernel():
            return not is_running(lease["pid"], lease["started"])
        heartbeat_s: float = lease["heartbeat_s"]
        return self._silent_s >= heartbeat_s * BEATS_TO_STALE

    def _is_same(self, name: str, fd: int) -> bool:
        try:
            return os.path.samestat(os.stat(name, dir_fd=self._fd, follow_symlinks=False), os.fstat(fd))
        except FileNotFoundError:
            return False

    def _open(self, name: str, flags: int) -> int:
        """Open a file of the lock's folder that only root, this process's user or the folder's owner can have made."""
        path = f"{os.path.dirname(self.path)}/{name}"
        mode = 0o644 & self._folder.st_mode
        try:
            fd = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode, dir_fd=self._fd)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise UntrustedFile(f"{path} is a symbolic link", hint="remove it") from None
            raise
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise UntrustedFile(f"{path} is no regular file", hint="remove it")
            if status.st_uid not in (0, os.geteuid(), self._folder.st_uid):
                raise UntrustedFile(f"{path} belongs to user {status.st_uid}", hint="remove it")
            if flags & os.O_CREAT and status.st_uid != self._folder.st_uid and os.geteuid() == 0:
                os.fchown(fd, self._folder.st_uid, self._folder.st_gid)  # its owner must be able to go on with it
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _names(self) -> list[str]:
        return list_at(self._fd)

    def _generations(self) -> list[int]:
        return generations(self._names(), self._name)


class SharedLock:
    """A lock that this process holds until `release`; a context manager. A thread keeps it alive."""

    def __init__(self, path: str, folder_fd: int, generation: int, fd: int, gate: int, heartbeat_s: float) -> None:
        from threading import Event, Lock, Thread

        self.path = path
        self._folder_fd = folder_fd
        self._generation = generation
        self._fd = fd
        self._gate = gate
        self._heartbeat_s = heartbeat_s
        self._beaten_s = _clock()
        self._guard = Lock()
        self._end = Event()
        self._thread = Thread(target=self._beat, name=f"lock {path}", daemon=True)
        self._thread.start()

    def __enter__(self) -> SharedLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def check(self) -> None:
        """See that the lock is still ours; call it before others are shown what was made under it.

        Raises:
            LockLost: another process took it over, or may do so any moment, since this one was silent for too long.
            OSError: the lock's folder cannot be read.
        """
        name = os.path.basename(self.path)
        if self._end.is_set():
            raise LockLost(f"{self.path} was released before", hint="report this: the program is wrong")
        if max(generations(list_at(self._folder_fd), name), default=0) != self._generation:
            raise LockLost(f"{self.path} was taken over by another process", hint="its work counts, not ours")
        silent_s = _clock() - self._beaten_s
        if self._gate < 0 and silent_s >= self._heartbeat_s * (BEATS_TO_STALE - 1):
            raise LockLost(
                f"{self.path} could not be touched for {silent_s:.0f} s, so others may take it",
                hint="see whether the shared file system is slow, or this process was stopped",
            )

    def release(self) -> None:
        """Give the lock back; a second time does nothing."""
        with self._guard:
            if self._end.is_set():
                return
            self._end.set()
            try:
                os.ftruncate(self._fd, 0)
            except OSError:
                pass  # it was taken over and removed
            for fd in (self._fd, self._folder_fd, self._gate):
                if fd >= 0:
                    os.close(fd)

    def _beat(self) -> None:
        while not self._end.wait(self._heartbeat_s):
            with self._guard:
                if self._end.is_set():
                    return
                begun_s = _clock()
                try:
                    os.utime(self._fd)
                except OSError:
                    continue  # check() notices
                self._beaten_s = begun_s


def generations(names: list[str], lock: str) -> list[int]:
    """Give the generations of a lock among a folder's names."""
    numbers = [name[len(lock) + 1 :] for name in names if name.startswith(f"{lock}.")]
    return [int(number) for number in numbers if number.isascii() and number.isdigit() and number[0] != "0"]


def list_at(folder_fd: int) -> list[str]:
    """List an open folder; opened anew, since NFS clients ask the server what changed when they open it."""
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder_fd)
    try:
        return os.listdir(fd)
    finally:
        os.close(fd)


def remove_at(name: str, folder_fd: int) -> None:
    """Remove a file, if it is there."""
    remove(name, dir_fd=folder_fd)


def _describe_self(token: str, flock: bool, heartbeat_s: float) -> dict[str, Any]:
    return {
        "host": os.uname().nodename,
        "pid": os.getpid(),
        "since_s": time.time(),
        "kernel": kernel(),
        "started": started_at(os.getpid()),
        "flock": flock,
        "heartbeat_s": heartbeat_s,
        "token": token,
    }


def _parse(data: bytes) -> dict[str, Any]:
    """Read a lease; nothing where it is released. One that makes no sense has no owner: a lease comes complete."""
    try:
        lease = json.loads(data)
        kinds = {"host": str, "pid": int, "since_s": float, "kernel": str, "started": int, "flock": bool}
        if isinstance(lease["heartbeat_s"], (int, float)) and all(type(lease[k]) is kind for k, kind in kinds.items()):
            return dict(lease)
    except (ValueError, KeyError, TypeError):
        pass
    return {}


def _is_token(text: str) -> bool:
    return len(text) == 16 and all(char in "0123456789abcdef" for char in text)


def _clock() -> float:
    """Seconds that also pass while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
