"""Two policies of a site, as one file in ``/etc/slurm-fsx/plugins.d``: owned by root, writable by nobody else."""

from __future__ import annotations

import os

from slurm_fsx_tools import hookimpl
from slurm_fsx_tools.health import Health

SCRATCH = "/scratch"
LEAST_FREE_BYTES = 10 << 30


@hookimpl
def slurm_fsx_job_env(job, env):
    """Long-running production jobs log warnings only; a user who sets NCCL_DEBUG still has it."""
    if job.partition == "production":
        env.default("NCCL_DEBUG", "WARN")


@hookimpl
def slurm_fsx_node_health(job):
    """A node whose local scratch is nearly full takes no job until somebody has looked."""
    try:
        free_bytes = os.statvfs(SCRATCH).f_bavail * os.statvfs(SCRATCH).f_frsize
    except FileNotFoundError:
        return None
    if free_bytes < LEAST_FREE_BYTES:
        return Health.drain(f"{SCRATCH} has {free_bytes >> 30} GiB free")
    return Health.ok()
