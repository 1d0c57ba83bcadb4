"""Which jobs use which shared thing, an image or an NCCL version: markers that root leaves on whatever node a job runs.

``FOLDER/NAME/JOBID`` is an empty file. A marker outlives a node that crashed, so it says who *may* be using the thing;
Slurm says whose job still runs. The folder of a thing that nobody uses any more stays: its time of change is that of
the last use. Whoever can write to FOLDER, or to the folder it is in, could remove markers: such a one is not believed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from .errors import UntrustedFile
from .files import open_folder

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


_DIGITS = frozenset("0123456789")


class Use(NamedTuple):
    """What is known of a thing's use."""

    jobs: frozenset[int]
    """Slurm's ids, as squeue's %A has them, of jobs that have started from it and may still run."""

    last_s: float
    """When a job last started from it, or was found to have ended; seconds since 1970."""


UNUSED = Use(frozenset(), 0.0)


def read_uses(folder: str) -> dict[str, Use]:
    """Give the use of each thing that was ever used, by its name.

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
                found[name] = _read_use(folder_fd, name)
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


def forget_ended(folder: str, uses: Mapping[str, Use], active: Collection[int]) -> int:
    """Remove the markers of jobs that have ended; say how many.

    Args:
        folder: Where the markers are.
        uses: As read *before* Slurm was asked: a job that starts in between is in neither, and keeps its marker.
        active: The jobs that Slurm has not ended.

    Raises:
        OSError: a marker cannot be removed.
        UntrustedFile: somebody else could write where they are.
    """
    ended = {name: use.jobs.difference(active) for name, use in uses.items() if use.jobs.difference(active)}
    if not ended:
        return 0
    folder_fd = _open_uses(folder)
    try:
        for name, jobs in ended.items():
            _remove_markers(folder_fd, name, jobs)
    finally:
        os.close(folder_fd)
    return sum(map(len, ended.values()))


def forget(folder: str, name: str) -> None:
    """Remove what is known of the use of a thing that is gone."""
    try:
        folder_fd = _open_uses(folder)
    except FileNotFoundError:
        return
    try:
        _remove_markers(folder_fd, name, _read_use(folder_fd, name).jobs)
        os.rmdir(name, dir_fd=folder_fd)
    except OSError:
        pass  # it never had one, or a job has started from it just now: it then keeps a name that means nothing
    finally:
        os.close(folder_fd)


def _open_uses(folder: str) -> int:
    above_fd = open_folder(os.path.dirname(folder))
    try:
        return open_folder(os.path.basename(folder), above_fd)
    finally:
        os.close(above_fd)


def _read_use(folder_fd: int, name: str) -> Use:
    fd = open_folder(name, folder_fd)
    try:
        jobs = frozenset(int(job) for job in os.listdir(fd) if job and _DIGITS.issuperset(job))
        return Use(jobs, os.fstat(fd).st_mtime)
    finally:
        os.close(fd)


def _remove_markers(folder_fd: int, name: str, jobs: Collection[int]) -> None:
    try:
        fd = open_folder(name, folder_fd)
    except FileNotFoundError:
        return
    try:
        used_ns = os.fstat(fd).st_mtime_ns
        for job in jobs:
            try:
                os.unlink(str(job), dir_fd=fd)
            except FileNotFoundError:
                continue  # the node's epilog was faster
        os.utime(fd, ns=(used_ns, used_ns))
    finally:
        os.close(fd)
