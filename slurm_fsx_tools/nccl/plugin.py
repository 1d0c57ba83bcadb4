"""NCCL's part in the hooks."""

from __future__ import annotations

from . import environment
from .choice import choose, unknown
from .installation import current_installation, unsaid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..config.model import Config
    from ..job import Job
    from ..jobenv import JobEnv
    from ..shared_fs import SharedFs


def slurm_fsx_job_env(job: Job, env: JobEnv, config: Config, shared_fs: SharedFs) -> None:
    """Give a job the installation's library path and the profile's variables."""
    if not environment.is_wanted(job, config):
        return
    choice = choose(job.nccl, config)
    installation = current_installation(config, shared_fs, choice.version, job.marker)
    if choice.version and installation is None:
        choice = choice._replace(version="", note=unknown(job.nccl, config))
        installation = current_installation(config, shared_fs, marker=job.marker)
    if choice.note:
        env.note(choice.note)
    if installation is not None and installation.is_trusted:
        env.facts["nccl"] = installation.id or installation.version
    env.extend(environment.nccl_operations(job, installation, config, choice.profile))
    for note in unsaid(environment.notes(installation, config, choice.profile), config, choice.version):
        env.note(note)
