"""Which jobs use which shared thing, an image or an NCCL version: markers that root leaves on whatever node a job runs.

``FOLDER/NAME/CLUSTER.JOBID`` is an empty file; ``JOBID`` where a step did not know its cluster. A marker outlives a
node that crashed, so it says who *may* be using the thing; Slurm says whose job still runs. Of the jobs of another
cluster that shares the folder nobody here knows: their markers count for some time. The folder of a thing that nobody
uses any more stays as long as the thing: its time of change is that of the last use. Whoever can write to FOLDER, or to
the folder it is in, could remove markers: such a one is not believed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from .errors import UntrustedFile
from .files import open_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

ELSEWHERE_S = 30 * 24 * 3600.0
"""How long a job of another cluster counts as running: that cluster's own pruning knows better, and may never run."""

_DIGITS = frozenset("0123456789")
_CLUSTER = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-")


class Use(NamedTuple):
    """What is known of a thing's use."""

    jobs: frozenset[str]
    """Jobs that have started from it and may still run, as their markers are called, e.g. ``12`` or ``east.12``."""

    last_s: float
    """When a job last started from it, or was found to have ended; seconds since 1970."""

    old: frozenset[str] = frozenset()
    """Which of the jobs have started so long ago that they count no more if another cluster's they are."""

    @property
    def ids(self) -> list[int]:
        """Slurm's ids of the jobs, as squeue's %A has them, of whatever cluster."""
        return sorted(int(job.rpartition(".")[2]) for job in self.jobs)


class Activity(NamedTuple):
    """What Slurm says of the jobs of its cluster."""

    jobs: Collection[int]
    """Those that it has not ended."""

    cluster: str = ""
    """The cluster's name; empty where nobody knows."""

    def running(self, use: Use) -> list[str]:
        """Give the jobs that use a thing and may still run, this cluster's first."""
        found = []
        for job in use.jobs:
            cluster, _, number = job.rpartition(".")
            is_ours = cluster in ("", self.cluster)
            if int(number) in self.jobs if is_ours else job not in use.old:
                found.append((not is_ours, cluster, int(number), job))
        return [job for *_, job in sorted(found)]

    def words(self, job: str) -> str:
        """Give a job's id, with its cluster where that is another one."""
        cluster, _, number = job.rpartition(".")
        return number if cluster in ("", self.cluster) else f"{number} of cluster {cluster}"


UNUSED = Use(frozenset(), 0.0)


def read_uses(folder: str, now_s: float | None = None) -> dict[str, Use]:
    """Give the use of each thing that was ever used, by its name.

    Args:
        folder: Where the markers are.
        now_s: Seconds since 1970; without it, nobody looks how old markers are.

    Raises:
        OSError: the folder cannot be read.
        UntrustedFile: somebody else could have written what is there.
    """
    try:
        folder_fd = _open_uses(folder)
    except FileNotFoundError:
        return {}
    try:
        found = {}
        for name in os.listdir(folder_fd):
            try:
                found[name] = _read_use(folder_fd, name, now_s)
            except (OSError, UntrustedFile):
                continue  # no folder, or gone by now
        return found
    finally:
        os.close(folder_fd)


def read_use(folder: str, name: str) -> Use:
    """Give the use of one thing, as it is now.

    Raises:
        OSError, UntrustedFile: as for `read_uses`.
    """
    try:
        folder_fd = _open_uses(folder)
    except FileNotFoundError:
        return UNUSED
    try:
        return _read_use(folder_fd, name)
    except FileNotFoundError:
        return UNUSED
    finally:
        os.close(folder_fd)


def forget_ended(folder: str, uses: Mapping[str, Use], activity: Activity, exists: Callable[[str], bool]) -> int:
    """Remove the markers of jobs that have ended, and the folders of things that are gone; say how many markers.

    Args:
        folder: Where the markers are.
        uses: As read *before* Slurm was asked, with their ages: a job that starts in between is in neither, and keeps
            its marker.
        activity: What Slurm says.
        exists: Whether there is a thing of that name now.

    Raises:
        OSError: a marker cannot be removed.
        UntrustedFile: somebody else could write where they are.
    """
    ended = {name: use.jobs.difference(activity.running(use)) for name, use in uses.items()}
    going = {name: jobs for name, jobs in ended.items() if jobs or not exists(name)}
    if not going:
        return 0
    folder_fd = _open_uses(folder)
    try:
        for name, jobs in going.items():
            _remove_markers(folder_fd, name, jobs)
            if not exists(name):
                _remove_if_empty(folder_fd, name)
    finally:
        os.close(folder_fd)
    return sum(map(len, going.values()))


def forget(folder: str, name: str) -> None:
    """Remove what is known of the use of a thing that is gone."""
    try:
        folder_fd = _open_uses(folder)
    except FileNotFoundError:
        return
    try:
        _remove_markers(folder_fd, name, _read_use(folder_fd, name).jobs)
        _remove_if_empty(folder_fd, name)
    except OSError:
        pass  # it never had one
    finally:
        os.close(folder_fd)


def _open_uses(folder: str) -> int:
    above_fd = open_folder(os.path.dirname(folder))
    try:
        return open_folder(os.path.basename(folder), above_fd)
    finally:
        os.close(above_fd)


def _read_use(folder_fd: int, name: str, now_s: float | None = None) -> Use:
    fd = open_folder(name, folder_fd)
    try:
        jobs = frozenset(filter(_is_job, os.listdir(fd)))
        old = frozenset(job for job in jobs if now_s is not None and "." in job and _is_old(job, fd, now_s))
        return Use(jobs, os.fstat(fd).st_mtime, old)
    finally:
        os.close(fd)


def _is_job(name: str) -> bool:
    cluster, dot, number = name.rpartition(".")
    return bool(number) and _DIGITS.issuperset(number) and bool(cluster) == bool(dot) and _CLUSTER.issuperset(cluster)


def _is_old(job: str, fd: int, now_s: float) -> bool:
    try:
        return now_s - os.stat(job, dir_fd=fd, follow_symlinks=False).st_mtime > ELSEWHERE_S
    except FileNotFoundError:
        return True


def _remove_if_empty(folder_fd: int, name: str) -> None:
    try:
        os.rmdir(name, dir_fd=folder_fd)
    except OSError:
        pass  # a job has started from it just now, or another one removed it


def _remove_markers(folder_fd: int, name: str, jobs: Collection[str]) -> None:
    try:
        fd = open_folder(name, folder_fd)
    except FileNotFoundError:
        return
    try:
        used_ns = os.fstat(fd).st_mtime_ns
        for job in jobs:
            try:
                os.unlink(job, dir_fd=fd)
            except FileNotFoundError:
                continue  # another process prunes, too
        os.utime(fd, ns=(used_ns, used_ns))
    finally:
        os.close(fd)
