"""Asks Slurm by its commands' ``--json``, which no user's text can make ambiguous."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import records
from .commands import CommandFailed, WayUnfit
from .states import with_partition
from .text_client import TextClient

if TYPE_CHECKING:
    from ..slurm_state import SlurmJob, SlurmNode

SHOW_NODES = ("scontrol", "--all", "show", "nodes", "--json")
"""A record for each node, where scontrol has the option: it came after 22.05."""

SHOW_NODES_22 = ("sinfo", "--all", "--json")
"""The same on 22.05; newer ones print groups of nodes that are alike here, without addresses."""


class JsonClient(TextClient):
    """Asks by ``--json``, but for all jobs at once.

    ``squeue --json`` tells each core of each node of each job: some 100 MB for a thousand busy nodes of 192 cores.
    """

    name = "--json"

    def nodes(self) -> list[SlurmNode]:
        try:
            text = self._ask(*SHOW_NODES)
        except CommandFailed as error:
            if "unrecognized option" not in error.message:
                raise _unfit(error) from error
            text = self._ask_json(*SHOW_NODES_22)
        return with_partition(records.nodes(text), self.partitions())

    def job(self, job_id: int) -> SlurmJob | None:
        try:
            text = self._ask_json("squeue", "--all", "--states=all", f"--jobs={job_id}", "--json")
        except CommandFailed as error:
            if error.is_about_unknown_job:
                return None
            raise
        found = records.jobs(text)
        return next((job for job in found if job.id == job_id), None)

    def _ask_json(self, *command: str) -> str:
        try:
            return self._ask(*command)
        except CommandFailed as error:
            raise _unfit(error) from error


def _unfit(error: CommandFailed) -> CommandFailed | WayUnfit:
    """Give the error as what it is: the controller's, or one of this way of asking."""
    return error if error.is_controllers else WayUnfit(error.message, error.hint)
