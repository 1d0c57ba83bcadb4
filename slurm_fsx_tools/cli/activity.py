"""Who uses what, as Slurm has it, for the commands that remove shared things."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import SlurmUnavailable
from ..slurm.commands import CommandClient
from ..uses import Activity

if TYPE_CHECKING:
    from ..config.model import Config


def ask_slurm(config: Config, things: str, otherwise: str) -> tuple[Activity, frozenset[int]]:
    """Give what Slurm says of its jobs, and the users who have any.

    Args:
        config: Names the cluster where Slurm does not.
        things: What may be in use, for the message.
        otherwise: What to do where Slurm does not answer.

    Raises:
        SlurmUnavailable: nobody knows.
    """
    client = CommandClient()
    try:
        jobs = client.active_jobs()
    except SlurmUnavailable as error:
        raise SlurmUnavailable(
            f"nobody knows which {things} are in use: {error.message}", hint=f"{error.hint}, {otherwise}"
        ) from error
    # Slurm's own word first, since the steps that leave markers have it, too.
    return Activity(jobs, client.cluster_name() or config["cluster.name"]), frozenset(jobs.values())
