"""The catalogue's part in the hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import resolution
from .catalogue import Catalogue

if TYPE_CHECKING:
    from ..config.model import Config
    from ..job import Job
    from ..shared_fs import SharedFs


def slurm_fsx_resolve_container(name: str, config: Config) -> str:
    """Choose the image by its name in the catalogue; raises ImageNotFound with the nearest names."""
    return resolution.resolve(name, Catalogue(config.below_fsx("containers")), config).path


def slurm_fsx_prolog(job: Job, config: Config, shared_fs: SharedFs) -> None:
    """Start the copy of the job's image onto the node's disk, where the site wants such copies."""
    if config["containers.stage"] and (job.container or job.image):
        from .background_copy import start_copy

        start_copy(job, config, shared_fs)
