"""Which jobs have started from which image: markers that root leaves at step start, on whatever node that was.

``STATE/uses/FILE/JOBID`` is an empty file. A marker outlives a node that crashed, so it says who *may* be using an
image; Slurm says whose job still runs. The folder of an image that nobody uses any more stays: its time of change is
that of the last use.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from ...errors import UntrustedFile
from ...files import open_folder

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ..store import Store

_DIGITS = frozenset("0123456789")


class Use(NamedTuple):
    """What is known of an image's use."""

    jobs: frozenset[int]
    """Slurm's ids, as squeue's %A has them, of jobs that have started from it and may still run."""

    last_s: float
    """When a job last started from it, or was found to have ended; seconds since 1970."""


UNUSED = Use(frozenset(), 0.0)


def read_uses(store: Store) -> dict[str, Use]:
    """Give the use of each image that was ever used, by its file.

    Raises:
        OSError: the folder cannot be read.
        UntrustedFile: somebody else could have written what is there.
    """
    try:
        folder_fd = _open_uses(store)
    except FileNotFoundError:
        return {}
    try:
        found = {}
        for file in os.listdir(folder_fd):
            try:
                found[file] = _read_use(folder_fd, file)
            except (OSError, UntrustedFile):
                continue  # no folder, or gone by now
        return found
    finally:
        os.close(folder_fd)


def read_use(store: Store, file: str) -> Use:
    """Give the use of one image, as it is now.

    Raises:
        OSError, UntrustedFile: as for `read_uses`.
    """
    try:
        folder_fd = _open_uses(store)
    except FileNotFoundError:
        return UNUSED
    try:
        return _read_use(folder_fd, file)
    except FileNotFoundError:
        return UNUSED
    finally:
        os.close(folder_fd)


def forget_ended(store: Store, uses: Mapping[str, Use], active: Collection[int]) -> int:
    """Remove the markers of jobs that have ended; say how many.

    Args:
        store: Whose images.
        uses: As read *before* Slurm was asked: a job that starts in between is in neither, and keeps its marker.
        active: The jobs that Slurm has not ended.

    Raises:
        OSError: a marker cannot be removed.
        UntrustedFile: somebody else could write where they are.
    """
    ended = {file: use.jobs.difference(active) for file, use in uses.items() if use.jobs.difference(active)}
    if not ended:
        return 0
    folder_fd = _open_uses(store)
    try:
        for file, jobs in ended.items():
            _forget(folder_fd, file, jobs)
    finally:
        os.close(folder_fd)
    return sum(map(len, ended.values()))


def forget_image(store: Store, file: str) -> None:
    """Remove what is known of the use of an image that is gone."""
    try:
        folder_fd = _open_uses(store)
    except FileNotFoundError:
        return
    try:
        _forget(folder_fd, file, _read_use(folder_fd, file).jobs)
        os.rmdir(file, dir_fd=folder_fd)
    except OSError:
        pass  # it never had one, or a job has started from it just now: it then keeps a name that means nothing
    finally:
        os.close(folder_fd)


def _open_uses(store: Store) -> int:
    state_fd = open_folder(store.state)
    try:
        return open_folder(os.path.basename(store.uses), state_fd)
    finally:
        os.close(state_fd)


def _read_use(folder_fd: int, file: str) -> Use:
    fd = open_folder(file, folder_fd)
    try:
        jobs = frozenset(int(name) for name in os.listdir(fd) if name and _DIGITS.issuperset(name))
        return Use(jobs, os.fstat(fd).st_mtime)
    finally:
        os.close(fd)


def _forget(folder_fd: int, file: str, jobs: Collection[int]) -> None:
    try:
        fd = open_folder(file, folder_fd)
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
