"""Monitoring's part in the hooks."""

from __future__ import annotations

from .on_node import around_job

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..config.model import Config
    from ..job import Job
    from ..jobenv import JobEnv
    from ..shared_fs import SharedFs
    from .exporters import Exporter


def slurm_fsx_exporters(config: Config) -> list[Exporter]:
    """Offer what a node has by itself."""
    from .exporters import node_exporters  # not in an epilog

    return node_exporters(config)


def slurm_fsx_prolog(job: Job, env: JobEnv, exporters: list[Exporter], config: Config, shared_fs: SharedFs) -> None:
    """Say which job comes to this node, and register the node's exporters."""
    if config["monitoring.enabled"]:
        from .on_node.registration import register_new

        try:
            around_job.tell_start(job, env.facts, config)
        finally:
            register_new(job.node, exporters, config, shared_fs)


def slurm_fsx_epilog(job: Job, config: Config) -> None:
    """Take back what was said of the job."""
    if config["monitoring.enabled"]:
        around_job.tell_end(job, config)


def slurm_fsx_failed_open(config: Config) -> None:
    """Let the alert fire now: the next job, which would say it too, may be hours away."""
    if config["monitoring.enabled"]:
        around_job.tell_failure(config)
