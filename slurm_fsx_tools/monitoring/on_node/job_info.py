"""What a node says of its jobs, one file of metrics a job: nobody else writes there, so nothing is read back.

``slurm_fsx_job_ID.prom`` is written by the job's prolog and removed by its epilog. A job may vanish without one. Its
``.env`` in ``runtime_dir`` is written before and removed before, and a reboot empties that folder: where it is missing,
the job is gone, and a later prolog or epilog, or the node's registration at its boot, removes its file.
"""

from __future__ import annotations

import os

from ...files import remove
from ..metrics_file import GAUGE, SUFFIX, Family, Sample, open_metrics_folder, remove_metrics, write_metrics

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ...config.model import Config
    from ...job import Job
    from .gpus import Gpu

PREFIX = "slurm_fsx_job_"
_TEMPORARY = ".slurm_fsx_"


def job_info_metrics(job: Job, gpus: list[Gpu], facts: Mapping[str, str], now_s: float) -> list[Family]:
    """Give a job's metrics on this node.

    Args:
        job: The job; what Slurm does not tell a prolog, such as the name, is an empty label.
        gpus: Its GPUs here.
        facts: `JobEnv.facts`.
        now_s: Seconds since 1970: when the job came to this node.
    """
    own = {"jobid": job.id, "node": job.node.name}
    user = job.user or (str(job.uid) if job.uid >= 0 else "")
    info = {
        "jobid": job.id,
        "user": user,
        "account": job.account,
        "partition": job.partition,
        "job_name": job.name,
        "node": job.node.name,
        "gpus": ",".join([gpu.label for gpu in gpus] or job.gpus),
        "container": job.container,
        "image": image_file(job),
        "nccl": facts.get("nccl", ""),
    }
    gpu_info = [
        Sample({**own, "user": user, "account": job.account, "gpu": gpu.label, "UUID": gpu.uuid}, 1) for gpu in gpus
    ]
    return [
        Family("slurm_fsx_job_info", GAUGE, "A job that runs on this node.", [Sample(info, 1)]),
        Family(
            "slurm_fsx_job_start_time_seconds",
            GAUGE,
            "When the job came to this node, in seconds since 1970.",
            [Sample(own, int(now_s))],
        ),
        Family("slurm_fsx_job_gpu_info", GAUGE, "A GPU that a job has on this node.", gpu_info),
    ]


def image_file(job: Job) -> str:
    """Give the name of the job's image file; empty where a prolog cannot know it.

    It knows a path that the user gave, and what the SPANK plugin found at submission.
    """
    path = job.image if job.image.startswith(("/", ".")) else job.resolved_image
    return path.rpartition("/")[2]


def write_job_info(job: Job, gpus: list[Gpu], facts: Mapping[str, str], config: Config, now_s: float) -> None:
    """Write a job's file.

    Raises:
        OSError: the folder cannot be made, or the file not written.
        UntrustedFile: the folder is a link.
    """
    families = job_info_metrics(job, gpus, facts, now_s)
    write_metrics(config["monitoring.textfile_dir"], PREFIX + job.id, families, config["monitoring.label_limit"])


def remove_job_info(job_id: str, config: Config) -> bool:
    """Remove a job's file; say whether it was there.

    Raises:
        OSError, UntrustedFile: as for `write_job_info`.
    """
    return remove_metrics(config["monitoring.textfile_dir"], PREFIX + job_id)


def sweep(config: Config, job_id: str) -> list[str]:
    """Remove the files of jobs that have vanished, and what killed processes left half written; give their names.

    Two folders are listed, whatever the number of jobs.

    Args:
        config: Says where.
        job_id: The job that is being worked for, which is never taken for gone.

    Raises:
        OSError: a folder cannot be listed, or a file not removed.
        UntrustedFile: the folder is a link.
    """
    try:
        folder_fd = open_metrics_folder(config["monitoring.textfile_dir"])
    except FileNotFoundError:
        return []
    try:
        names = os.listdir(folder_fd)
        # In this order: a job whose file was seen had its .env by then.
        gone = [*_files_of_gone_jobs(names, config, job_id), *filter(_is_left_behind, names)]
        return [name for name in gone if remove(name, folder_fd)]
    finally:
        os.close(folder_fd)


def running_jobs(config: Config) -> frozenset[str]:
    """Give the jobs whose prolog has run on this node since it booted, and whose epilog has not.

    Raises:
        OSError: the folder cannot be listed.
    """
    names = os.listdir(f"{config['runtime_dir']}/jobs")
    return frozenset([name[: -len(".env")] for name in names if name.endswith(".env")])


def _files_of_gone_jobs(names: list[str], config: Config, job_id: str) -> Iterator[str]:
    ids = [name[len(PREFIX) : -len(SUFFIX)] for name in names if name.startswith(PREFIX) and name.endswith(SUFFIX)]
    ours = [number for number in ids if number.isdigit() and number != job_id]
    if not ours:
        return
    running = running_jobs(config)
    for number in ours:
        # Asked again: a job that was requeued may have come back since.
        if number not in running and not os.path.lexists(f"{config['runtime_dir']}/jobs/{number}.env"):
            yield f"{PREFIX}{number}{SUFFIX}"


def _is_left_behind(name: str) -> bool:
    """Whether this is a temporary file of `write_atomically`, whose process is gone."""
    if not name.startswith(_TEMPORARY):
        return False
    _, _, pid = name.rpartition(".")
    if not (pid.isascii() and pid.isdigit()):
        return False
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        pass
    return False
