"""A job's record: what Slurm, metrics and the shared file system know of it, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..errors import InvalidName
from ..monitoring.job_record.history import MetricsJob
from ..node_sets import expand
from ..slurm.states import ENDED
from ..slurm_state import SlurmJob

if TYPE_CHECKING:
    from collections.abc import Sequence

OVER = "ended"
"""The state of a job that only metrics remember: they do not say how it ended."""

_NO_METRICS = MetricsJob("", "", "", "", (), 0, "", "", "", 0.0, 0.0)


class JobRecord(NamedTuple):
    """All that was found of a job; a text is empty, a time 0, where nobody knows."""

    id: int
    name: str
    user: str
    account: str
    partition: str
    state: str
    nodes: tuple[str, ...]
    gpus: int
    start_time_s: float
    end_time_s: float
    """When it ended; 0 while it runs."""

    container: str
    images: tuple[str, ...]
    nccl: tuple[str, ...]
    """Versions, as ``slurm-fsx nccl list`` has them."""

    told_by: tuple[str, ...]
    """``Slurm``, ``accounting``, ``Prometheus``, in the order in which they were believed."""


def join(
    job_id: int,
    slurm: SlurmJob | None,
    told_by: str,
    metrics: MetricsJob | None,
    images: Sequence[str],
    nccl: Sequence[str],
    now_s: float,
    *,
    slurm_answers: bool = True,
) -> JobRecord:
    """Put a record together: Slurm's word counts, and metrics fill in what it does not say.

    Args:
        job_id: Slurm's id.
        slurm: What Slurm or its accounting says.
        told_by: Which of them.
        metrics: What Prometheus remembers.
        images: Images that are marked as used by the job.
        nccl: NCCL versions that are.
        now_s: Seconds since 1970.
        slurm_answers: Whether Slurm was asked: a job that it does not know is over.
    """
    seen = metrics or _NO_METRICS
    job = slurm or SlurmJob(job_id, "", -1, state=OVER if slurm_answers else "", end_time_s=seen.last_seen_s)
    return JobRecord(
        id=job_id,
        name=job.name or seen.name,
        user=job.user or seen.user or (str(job.uid) if job.uid >= 0 else ""),
        account=job.account or seen.account,
        partition=job.partition or seen.partition,
        state=job.state,
        nodes=_nodes(job.nodes) or seen.nodes,
        gpus=job.gpus or seen.gpus,
        start_time_s=job.start_time_s or seen.start_time_s,
        # Slurm gives a running job the time when it will have to end.
        end_time_s=min(job.end_time_s, now_s) if job.state in (*ENDED, OVER) else 0.0,
        container=seen.container or job.container,
        images=tuple(images) or tuple(filter(None, (seen.image,))),
        nccl=tuple(nccl) or tuple(filter(None, (seen.nccl,))),
        told_by=tuple(filter(None, (told_by, "Prometheus" if metrics else ""))),
    )


def _nodes(text: str) -> tuple[str, ...]:
    try:
        return tuple(expand(text)) if text else ()
    except InvalidName:
        return ()
