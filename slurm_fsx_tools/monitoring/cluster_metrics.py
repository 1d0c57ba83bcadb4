"""What the head node knows of the whole cluster's jobs and imports, as metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .metrics_file import GAUGE, Family, Sample

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ..slurm_state import SlurmJob

IMPORT_RESULTS = ("done", "failed", "running", "waiting")


def cluster_job_info(jobs: Iterable[SlurmJob]) -> Family:
    """Give the jobs that have nodes, with the names and accounts that a prolog of Slurm 22.05 is not told."""
    return Family(
        "slurm_fsx_cluster_job_info",
        GAUGE,
        "A job that has nodes, as the controller knows it.",
        [
            Sample(
                {
                    "jobid": str(job.id),
                    "user": job.user or str(job.uid),
                    "account": job.account,
                    "partition": job.partition,
                    "job_name": job.name,
                    "state": job.state,
                    "nodes": job.nodes,
                    "gpus": str(job.gpus),
                },
                1,
            )
            for job in jobs
            if job.nodes
        ],
    )


def image_imports(counts: Mapping[str, int]) -> Family:
    """Give how many images' last import has come to what, by the words of IMPORT_RESULTS.

    A gauge, since another import of the same image takes the place of the last one's result.
    """
    return Family(
        "slurm_fsx_image_imports",
        GAUGE,
        "Images by what their last import has come to.",
        [Sample({"result": result}, counts.get(result, 0)) for result in IMPORT_RESULTS],
    )
