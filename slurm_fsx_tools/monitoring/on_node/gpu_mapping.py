"""dcgm-exporter's own way to know jobs: a folder with a file for each GPU, one job id a line.

A file is called like the GPU: ``0`` by NVML's index, ``2.0`` for instance 0 of GPU 2 under MIG (only newer releases of
dcgm-exporter read these). A job that stands there twice has made it answer with an error (NVIDIA/dcgm-exporter#730),
and an empty file hides the GPU: so a file is replaced at one stroke, and removed when its last job ends. Some releases
read every file of the folder, whatever its name: what is not finished yet lies in a folder inside, which none reads.
Source: dcgm-exporter's README, "How to include HPC jobs in metric labels".
"""

from __future__ import annotations

import errno
import os

from ...counters import lock
from ...errors import UntrustedFile
from ...files import move, read_trusted, remove
from ..metrics_file import open_metrics_folder
from .job_info import running_jobs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...config.model import Config

_STAGE = ".slurm-fsx"
_NEW = "new"
_LOCK = "gpu-mapping.lock"


def map_gpus(job_id: str, gpus: Iterable[str], config: Config) -> None:
    """Write a job to the files of its GPUs, and take jobs that are gone out of all.

    Args:
        job_id: The job.
        gpus: How dcgm-exporter calls them; none after the job's end.
        config: Says where.

    Raises:
        OSError: a file cannot be written.
        UntrustedFile: the folder is a link.
    """
    folder = config["monitoring.gpu_mapping_dir"]
    wanted = frozenset(gpus)
    try:
        folder_fd = open_metrics_folder(folder)
    except FileNotFoundError:
        if not wanted:
            return
        os.makedirs(folder, 0o755, exist_ok=True)
        folder_fd = open_metrics_folder(folder)
    try:
        turn = lock(f"{config['runtime_dir']}/{_LOCK}")
        try:
            _update(folder_fd, job_id, wanted, running_jobs(config))
        finally:
            os.close(turn)
    finally:
        os.close(folder_fd)


def _update(folder_fd: int, job_id: str, wanted: frozenset[str], running: frozenset[str]) -> None:
    for name in sorted(wanted.union(filter(_is_gpu, os.listdir(folder_fd)))):
        lines = _read(folder_fd, name)
        # What is no number is not ours to judge.
        kept = [line for line in lines if line != job_id and (line in running or not line.isdigit())]
        new = list(dict.fromkeys([*kept, job_id] if name in wanted else kept))
        if not new:
            remove(name, folder_fd)
        elif new != lines:
            _replace(folder_fd, name, new)


def _read(folder_fd: int, name: str) -> list[str]:
    try:
        return read_trusted(name, dir_fd=folder_fd).decode("utf-8", "replace").split()
    except (FileNotFoundError, UntrustedFile):
        return []  # what somebody else put there is replaced


def _replace(folder_fd: int, name: str, lines: list[str]) -> None:
    try:
        os.mkdir(_STAGE, 0o755, dir_fd=folder_fd)
    except FileExistsError:
        pass
    stage_fd = os.open(_STAGE, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder_fd)
    try:
        remove(_NEW, stage_fd)  # of a process that was killed: there is one at a time
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(_NEW, flags, 0o644, dir_fd=stage_fd)
        try:
            data = "".join(f"{line}\n" for line in lines).encode()
            if os.write(fd, data) != len(data):
                raise OSError(errno.ENOSPC, "no room for a whole file", name)
        finally:
            os.close(fd)
        move(_NEW, name, stage_fd, folder_fd)
    finally:
        os.close(stage_fd)


def _is_gpu(name: str) -> bool:
    return name.replace(".", "", 1).isdigit() and name.isascii()
