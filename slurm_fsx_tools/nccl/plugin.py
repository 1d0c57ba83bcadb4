"""NCCL's part in the hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import environment
from .installation import current_installation, unsaid

if TYPE_CHECKING:
    from ..config.model import Config
    from ..job import Job
    from ..jobenv import JobEnv
    from ..shared_fs import SharedFs


def slurm_fsx_job_env(job: Job, env: JobEnv, config: Config, shared_fs: SharedFs) -> None:
    """Give a job the installation's library path and the profile's variables."""
    if environment.is_wanted(job, config):
        installation = current_installation(config, shared_fs)
        env.extend(environment.nccl_operations(job, installation, config))
        for note in unsaid(environment.notes(installation, config), config):
            env.note(note)
