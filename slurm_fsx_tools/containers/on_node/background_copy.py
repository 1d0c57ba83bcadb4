"""Starts the copy of a job's image onto the node's disk, behind the job's back: nothing waits for it."""

from __future__ import annotations

import os
import syslog
from typing import TYPE_CHECKING

from ...errors import SlurmFsxError
from ..on_demand.wanted import Wanted, look_up
from ..store import Store
from .local_copies import Identity, LocalCopies

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...config.model import Config
    from ...job import Job
    from ...shared_fs import SharedFs

_NICENESS = 19


def start_copy(job: Job, config: Config, shared_fs: SharedFs) -> None:
    """Start a copy of the image that a job names, unless there is one or another copy is under way.

    Raises:
        OSError: no process can be made.
        SlurmFsxError: the shared file system does not answer.
    """
    copies = LocalCopies.configured(config)
    wanted = Wanted.of_job(job, config)
    if copies is None or wanted is None:
        return
    path, *identity = shared_fs.look(lambda: _identify(wanted, config))
    folder, file = os.path.split(path)
    if folder != config.below_fsx("containers") or copies.find(file, Identity(*identity)) is not None:
        return
    _detach(lambda: _copy(copies, Store(folder), file))


def _identify(wanted: Wanted, config: Config) -> tuple[str, int, int]:
    path = look_up(wanted, config)
    if path is None:
        return "", 0, 0
    status = os.stat(path)
    return path, status.st_size, status.st_mtime_ns


def _copy(copies: LocalCopies, store: Store, file: str) -> None:
    lock = copies.lock()
    if lock is None:
        return
    with lock:
        copies.add(store, file)


def _detach(work: Callable[[], None]) -> None:
    """Do some work in a process that nobody waits for: its parent ends at once."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        os.setsid()  # slurmd ends a prolog's whole process group
        if os.fork() == 0:
            os.nice(_NICENESS)
            null = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(null, stream)
            os.closerange(3, min(1 << 16, os.sysconf("SC_OPEN_MAX")))
            try:
                work()
            except (OSError, SlurmFsxError) as error:
                syslog.openlog("slurm-fsx", syslog.LOG_PID, syslog.LOG_DAEMON)
                syslog.syslog(syslog.LOG_WARNING, f"copying an image to this node: {error}")
    finally:
        os._exit(0)
