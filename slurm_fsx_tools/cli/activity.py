"""Who uses what, as Slurm has it, for the commands that remove shared things."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from ..errors import SlurmUnavailable
from ..nccl.manifest import USES, version_folder
from ..slurm.commands import CommandClient
from ..uses import Activity, forget_ended, read_uses

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config.model import Config
    from ..containers.store import Store


class Marks(NamedTuple):
    """Where jobs say what they use."""

    folder: str
    exists: Callable[[str], bool]
    """Whether there is a thing of that name."""


def image_marks(store: Store) -> Marks:
    """Where jobs say which images they use."""
    return Marks(store.uses, lambda file: os.path.lexists(store.path(file)))


def version_marks(root: str) -> Marks:
    """Where jobs say which version of NCCL they use; `root` is ``/fsx/nccl``."""
    return Marks(f"{root}/{USES}", lambda version_id: os.path.isdir(version_folder(root, version_id)))


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


def forget_ended_jobs(config: Config, things: str, *kinds: Marks) -> int:
    """Remove the marks of jobs that have ended; say how many.

    Args:
        config: As for `ask_slurm`.
        things: As for `ask_slurm`.
        kinds: Where marks are.

    Raises:
        SlurmUnavailable: nobody knows who has ended.
        OSError, UntrustedFile: as for `read_uses` and `forget_ended`.
    """
    read = [read_uses(marks.folder, time.time()) for marks in kinds]
    activity, _ = ask_slurm(config, things, "then try again")
    return sum(forget_ended(marks.folder, uses, activity, marks.exists) for marks, uses in zip(kinds, read))
