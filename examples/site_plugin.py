"""Two policies of a site, as one file in ``/etc/slurm-fsx/plugins.d``: owned by root, writable by nobody else."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from slurm_fsx_tools import hookimpl
from slurm_fsx_tools.health import Health

if TYPE_CHECKING:
    from slurm_fsx_tools.job import Job
    from slurm_fsx_tools.jobenv import JobEnv

SCRATCH = "/scratch"
LEAST_FREE_BYTES = 10 << 30


@hookimpl
def slurm_fsx_job_env(job: Job, env: JobEnv) -> None:
    """Long-running production jobs log warnings only; a user who sets NCCL_DEBUG still has it."""
    if job.partition == "production":
        env.default("NCCL_DEBUG", "WARN")


@hookimpl
def slurm_fsx_node_health() -> Health | None:
    """A node whose local scratch is nearly full takes no job until somebody has looked."""
    try:
        status = os.statvfs(SCRATCH)
    except FileNotFoundError:
        return None
    free_bytes = status.f_bavail * status.f_frsize
    if free_bytes < LEAST_FREE_BYTES:
        return Health.drain(f"{SCRATCH} has {free_bytes >> 30} GiB free")
    return Health.ok()
