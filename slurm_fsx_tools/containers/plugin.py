"""The catalogue's part in the hooks."""

from __future__ import annotations

import os

from . import resolution
from .catalogue import Catalogue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..config.model import Config
    from ..job import Job
    from ..shared_fs import SharedFs

DELETION_S = 1.5
"""How long an epilog deletes what containers wrote; the next one goes on, and ``slurm-fsx containers cleanup`` does."""


def slurm_fsx_resolve_container(name: str, config: Config) -> str:
    """Choose the image by its name in the catalogue; raises ImageNotFound with the nearest names."""
    return resolution.resolve(name, Catalogue(config.below_fsx("containers")), config).path


def slurm_fsx_prolog(job: Job, config: Config, shared_fs: SharedFs) -> None:
    """Start the copy of the job's image onto the node's disk, where the site wants such copies."""
    if config["containers.stage"] and (job.container or job.image):
        from .on_node.background_copy import start_copy

        start_copy(job, config, shared_fs)


def slurm_fsx_epilog(config: Config) -> None:
    """Delete what the job's containers wrote; the SPANK plugin has put it aside before."""
    trash = f"{config['containers.state_dir']}/trash"
    try:
        if not os.listdir(trash):
            return
    except FileNotFoundError:
        return
    from .on_node.trash import empty_trash

    empty_trash(trash, DELETION_S)
