"""Monitoring's part in the hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import exporters as node
from .registration import register_new

if TYPE_CHECKING:
    from ..config.model import Config
    from ..job import Job
    from ..shared_fs import SharedFs
    from .exporters import Exporter


def slurm_fsx_exporters(config: Config) -> list[Exporter]:
    """Offer what a node has by itself."""
    return node.node_exporters(config)


def slurm_fsx_prolog(job: Job, exporters: list[Exporter], config: Config, shared_fs: SharedFs) -> None:
    """Register the node's exporters."""
    if config["monitoring.enabled"]:
        register_new(job.node, exporters, config, shared_fs)
