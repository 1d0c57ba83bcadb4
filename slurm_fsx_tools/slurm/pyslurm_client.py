"""Asks Slurm by pyslurm, in a child: its import runs libslurm, which may hang, or end the process, without a word."""

from __future__ import annotations

import subprocess
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

from . import records
from .commands import TIMEOUT_S, CommandClient, WayUnfit, own_environment
from .states import ENDED, with_partition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..slurm_state import SlurmJob, SlurmNode

LIMIT_S = 5.0
"""How long pyslurm may take for one answer: the next way of asking wants its time, too."""

_CHILD = str(Path(__file__).with_name("pyslurm_child.py"))


class PyslurmClient(CommandClient):
    """Asks by pyslurm, where it is installed and made for the Slurm that runs.

    Args:
        timeout_s: How long one of Slurm's commands may take.
        limit_s: How long the child may take.
        folders: Where pyslurm may be besides this installation.
    """

    name = "pyslurm"

    def __init__(self, timeout_s: float = TIMEOUT_S, limit_s: float = LIMIT_S, folders: Sequence[str] = ()) -> None:
        super().__init__(timeout_s)
        self._limit_s = limit_s
        self._folders = list(folders)

    def nodes(self) -> list[SlurmNode]:
        return with_partition(records.nodes(self._ask_child("nodes")), self.partitions())

    def jobs(self) -> list[SlurmJob]:
        return [job for job in records.jobs(self._ask_child("jobs")) if job.state not in ENDED]

    def job(self, job_id: int) -> SlurmJob | None:
        return next((job for job in records.jobs(self._ask_child("jobs")) if job.id == job_id), None)

    def _ask_child(self, what: str) -> str:
        # Looked for, not imported.
        if PathFinder.find_spec("pyslurm", [*self._folders, *sys.path]) is None:
            raise WayUnfit("it is not installed")
        major, minor = self.release()
        try:
            done = subprocess.run(
                [sys.executable, "-I", _CHILD, what, f"{major}.{minor}", *self._folders],
                env=own_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=self._limit_s,
                check=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired as error:
            raise WayUnfit(f"its child gave no answer within {self._limit_s:g} s") from error
        if done.returncode != 0 or not done.stdout:
            how = f"was ended by signal {-done.returncode}" if done.returncode < 0 else f"ended with {done.returncode}"
            said = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
            raise WayUnfit(f"its child {how}: {said[0]}")
        return done.stdout.decode(errors="replace")
