"""What this node's prologs and epilogs have come to, counted over processes: durations, and how many failed open.

One small file of JSON below ``runtime_dir``, so counting begins anew with each boot. A count is a read and one write in
place under a lock, which ends with its process: numbers only grow, so the text never gets shorter, and it is less than
a page, which the kernel copies whole or not at all, whatever kills the process. `MISSES`, beside it, gets a byte from
the SPANK plugin (``spank/miss.c``) for each step whose container had no image.
"""

from __future__ import annotations

import os

from . import json_text
from .values import NamedTuple

FILE = "counters.json"
MISSES = "resolution-misses"

BUCKETS_S = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of durations. A prolog takes about 0.05 s, a look at a slow ``/fsx`` 2 s, ``prolog.deadline`` is 10."""

LOCK_S = 1.0
"""How long a job waits for its prolog or epilog to be counted."""

_LIMIT_BYTES = 4096


class Tally(NamedTuple):
    """What the runs of one act have come to."""

    total_us: int
    """How long they took together."""

    failed_open: int
    """How many of them went on without something."""

    buckets: tuple[int, ...]
    """How many took at most as long as each of BUCKETS_S, but longer than the one before; last, those beyond."""

    def add(self, duration_s: float, failed: bool) -> Tally:
        """Count one more."""
        place = sum(duration_s > bound for bound in BUCKETS_S)
        buckets = [count + (index == place) for index, count in enumerate(self.buckets)]
        return Tally(self.total_us + max(0, round(duration_s * 1e6)), self.failed_open + failed, tuple(buckets))


NOTHING = Tally(0, 0, (0,) * (len(BUCKETS_S) + 1))


def count(runtime_dir: str, act: str, duration_s: float, failed: bool) -> None:
    """Count a run of an act.

    Args:
        runtime_dir: The folder of the counters.
        act: ``prolog`` or ``epilog``.
        duration_s: By the monotonic clock.
        failed: Whether the job went on without something.

    Raises:
        OSError: the file cannot be written.
    """
    fd = lock(f"{runtime_dir}/{FILE}")
    try:
        tallies = _read(fd)
        tallies[act] = tallies.get(act, NOTHING).add(duration_s, failed)
        os.pwrite(fd, json_text.dumps(tallies), 0)
    finally:
        os.close(fd)


def read_counts(runtime_dir: str) -> dict[str, Tally]:
    """Give what was counted, by act.

    Raises:
        OSError: as for `count`.
    """
    fd = lock(f"{runtime_dir}/{FILE}")
    try:
        return _read(fd)
    finally:
        os.close(fd)


def read_misses(runtime_dir: str) -> int:
    """Give how many steps had a container without an image."""
    try:
        return os.lstat(f"{runtime_dir}/{MISSES}").st_size
    except OSError:
        return 0


def lock(path: str, wait: bool = True) -> int:
    """Open a file of root's own, made if need be, and lock it until it is closed.

    Nobody else can open it: whoever may read a file can lock it against its writers, and would hold up every job.
    Those who wait sleep in the kernel's queue: hundreds that ask again and again would keep each other from working.
    Whoever calls this limits the wait by a `Limit`.

    Raises:
        OSError: it cannot be opened; BlockingIOError where it is not free, and this is not to wait.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(fd, 0o600)  # one of an older release's, which all could read
        os.lockf(fd, os.F_LOCK if wait else os.F_TLOCK, 0)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _read(fd: int) -> dict[str, Tally]:
    """Read the counters; what is no such file any more is emptied, and counting begins anew."""
    data = os.pread(fd, _LIMIT_BYTES, 0)
    try:
        return {
            act: Tally(int(total), int(failed), tuple(map(int, buckets)))
            for act, (total, failed, buckets) in json_text.loads(data).items()
            if len(buckets) == len(NOTHING.buckets)
        }
    except (ValueError, TypeError, AttributeError):
        os.ftruncate(fd, 0)
        return {}
