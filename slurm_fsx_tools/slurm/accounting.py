"""What Slurm's accounting keeps of jobs that slurmctld has forgotten."""

from __future__ import annotations

from ..errors import SlurmUnavailable
from ..slurm_state import SlurmJob
from .commands import TIMEOUT_S, CommandFailed, ask
from .states import count_gpus

_FIELDS = ("JobIDRaw", "UID", "User", "State", "Start", "End", "NNodes", "AllocTRES", "NodeList", "Partition")
"""A name, and an account, may hold anything: they come last."""


def past_job(job_id: int, timeout_s: float = TIMEOUT_S) -> SlurmJob | None:
    """Give a job as accounting has it; None where there is no accounting, or no such job in it.

    Raises:
        SlurmUnavailable: sacct does not answer, or with something else.
    """
    fields = ",".join((*_FIELDS, "Account", "JobName"))
    command = ("sacct", "--parsable2", "--noheader", "--allocations", f"--jobs={job_id}", f"--format={fields}")
    try:
        text = ask(command, timeout_s)
    except CommandFailed as error:
        if "accounting storage is disabled" in error.message:
            return None
        raise
    return read_job(text, job_id)


def read_job(text: str, job_id: int) -> SlurmJob | None:
    """Read what sacct prints of a job; None where it is not there.

    A name of several lines is cut at its first end: the next line could be made to look like another job.

    Raises:
        SlurmUnavailable: it is something else.
    """
    for line in text.splitlines():
        if not line.startswith(f"{job_id}|"):
            continue
        parts = line.split("|", len(_FIELDS) + 1)
        try:
            number, uid, user, state, start, end, count, tres, nodes, partition, account, name = parts
            return SlurmJob(
                id=int(number),
                user=user,
                uid=int(uid),
                account=account,
                partition=partition,
                name=name,
                state=state.partition(" ")[0],  # "CANCELLED by 2001"
                nodes="" if nodes in ("None assigned", "None") else nodes,
                node_count=int(count),
                gpus=count_gpus(tres),
                start_time_s=_seconds(start),
                end_time_s=_seconds(end),
            )
        except ValueError as error:
            raise SlurmUnavailable(f"sacct answered {line[:80]!r}", hint=f"run: sacct --jobs={job_id}") from error
    return None


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() else 0.0  # "Unknown", "None"
