"""What the head node tells Prometheus of Slurm: jobs, nodes by state, and how the sync fares.

``slurm_fsx_head.prom`` is written by a pass that succeeded, and stays as it is by one that failed;
``slurm_fsx_sync.prom`` tells which of the two the last pass was.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ..metrics_file import GAUGE, Family, Sample, write_metrics
from .discovery import is_coming, is_off

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ...config.model import Config
    from ...slurm_state import SlurmJob, SlurmNode

HEAD, SYNC = "slurm_fsx_head", "slurm_fsx_sync"


def write_head_metrics(
    config: Config,
    nodes: Iterable[SlurmNode],
    jobs: Iterable[SlurmJob],
    registered: int,
    imports: Mapping[str, int],
    now_s: float,
) -> None:
    """Write what a successful pass has found.

    Args:
        config: Says where node_exporter reads, and how long a label may be.
        nodes: All of Slurm's.
        jobs: All of Slurm's; of those that wait for nodes nothing is written.
        registered: How many of the nodes are targets.
        imports: How many images are ``waiting``, ``running``, ``done`` and ``failed``.
        now_s: Seconds since 1970.

    Raises:
        OSError, UntrustedFile: as for `write_metrics`.
    """
    states = Counter(_state(node) for node in nodes)
    families = [
        Family(
            "slurm_fsx_cluster_job_info",
            GAUGE,
            "A job that has nodes, as Slurm's controller knows it.",
            [Sample(_job_labels(job), 1) for job in jobs if job.nodes],
        ),
        Family(
            "slurm_fsx_nodes",
            GAUGE,
            "Slurm's nodes by state.",
            [Sample({"state": state}, count) for state, count in sorted(states.items())],
        ),
        Family("slurm_fsx_registered_nodes", GAUGE, "Nodes that Prometheus has targets of.", [Sample({}, registered)]),
        Family(
            "slurm_fsx_image_imports",
            GAUGE,
            "Images by how their last import ended, or is going.",
            [Sample({"result": result}, count) for result, count in sorted(imports.items())],
        ),
        Family(
            "slurm_fsx_sync_timestamp_seconds",
            GAUGE,
            "When the targets were last compared with Slurm's nodes.",
            [Sample({}, round(now_s, 3))],
        ),
    ]
    write_metrics(config["monitoring.textfile_dir"], HEAD, families, config["monitoring.label_limit"])


def write_sync_metrics(config: Config, *, success: bool) -> None:
    """Write whether the last pass succeeded.

    Raises:
        OSError, UntrustedFile: as for `write_metrics`.
    """
    help_text = "Whether the last comparison of targets with Slurm's nodes succeeded."
    families = [Family("slurm_fsx_sync_success", GAUGE, help_text, [Sample({}, int(success))])]
    write_metrics(config["monitoring.textfile_dir"], SYNC, families, config["monitoring.label_limit"])


def _state(node: SlurmNode) -> str:
    """Give one word for a node: what its marks say counts more than sinfo's."""
    if is_off(node):
        return "future" if node.state == "future" else "powered_off"
    if is_coming(node):
        return "powering_up"
    return "down" if node.is_down else node.state


def _job_labels(job: SlurmJob) -> dict[str, str]:
    return {
        "jobid": str(job.id),
        "user": job.user or str(job.uid),
        "account": job.account,
        "partition": job.partition,
        "job_name": job.name,
        "state": job.state,
        "nodes": job.nodes,
        "gpus": str(job.gpus),
    }
