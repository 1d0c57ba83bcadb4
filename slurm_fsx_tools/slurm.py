"""Slurm, as commands see it: the one place that runs a Slurm command. Prologs and epilogs never do."""

from __future__ import annotations

import os
import subprocess
from typing import Protocol

from .errors import SlurmUnavailable

TIMEOUT_S = 20.0
"""Slurm's own commands try again for some time where the controller is being restarted."""

_WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD")
"""Source: squeue(1), JOB STATE CODES: states of jobs that hold no node."""


class SlurmClient(Protocol):
    """What the commands ask of Slurm."""

    def active_jobs(self) -> dict[int, int]:
        """Give the jobs that have nodes, running, suspended, or not yet cleaned up after: the user's id by the job's.

        Each element of an array, and each part of a heterogeneous job, has an id of its own: the one that prologs,
        steps and SPANK plugins (S_JOB_ID) know it by.

        Raises:
            SlurmUnavailable: there is no answer, or none that can be read.
        """

    def cluster_name(self) -> str:
        """Give Slurm's ``ClusterName``, as steps have it in ``SLURM_CLUSTER_NAME``; empty where there is no answer."""


class CommandClient:
    """Asks by Slurm's own commands, found by PATH.

    Args:
        timeout_s: How long one command may take.
    """

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s

    def active_jobs(self) -> dict[int, int]:
        # %A is the job's own id, also of an array's element (%i is 7_2 there); --all: in hidden partitions, too.
        jobs = {}
        for line in self._ask(["squeue", "--noheader", "--all", "--format=%A %U %T"]).splitlines():
            words = line.split()
            if len(words) != 3 or not (words[0].isdigit() and words[1].isdigit()):
                raise SlurmUnavailable(f"squeue answered {line[:80]!r}", hint="run: squeue --format='%A %U %T'")
            if words[2] not in _WAITING:
                jobs[int(words[0])] = int(words[1])
        return jobs

    def cluster_name(self) -> str:
        try:
            lines = self._ask(["scontrol", "show", "config"]).splitlines()
        except SlurmUnavailable:
            return ""
        keys = (line.partition("=") for line in lines)
        return next((value.strip() for key, _, value in keys if key.strip() == "ClusterName"), "")

    def _ask(self, command: list[str]) -> str:
        # A user's SQUEUE_STATES, SQUEUE_USERS or SLURM_CLUSTERS must not choose which jobs are seen.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SQUEUE_", "SLURM_"))}
        kept.update({name: os.environ[name] for name in ("SLURM_CONF",) if name in os.environ})
        try:
            done = subprocess.run(
                command, env=kept, stdin=subprocess.DEVNULL, capture_output=True, timeout=self._timeout_s, check=False
            )
        except FileNotFoundError as error:
            raise SlurmUnavailable(
                f"{command[0]} is not installed", hint="run this where Slurm's commands are"
            ) from error
        except OSError as error:
            raise SlurmUnavailable(f"{command[0]} cannot be run: {error.strerror}", hint="mend it") from error
        except subprocess.TimeoutExpired as error:
            raise SlurmUnavailable(
                f"{command[0]} gave no answer within {self._timeout_s:g} s", hint="see: scontrol ping"
            ) from error
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["nothing"]
            raise SlurmUnavailable(f"{command[0]} ended with {done.returncode}: {said[0]}", hint="see: scontrol ping")
        return done.stdout.decode(errors="replace")
