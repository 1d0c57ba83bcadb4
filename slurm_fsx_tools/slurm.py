"""Slurm, as commands see it: the one place that runs a Slurm command. Prologs and epilogs never do."""

from __future__ import annotations

import os
import re
import subprocess
from typing import Protocol

from .errors import SlurmUnavailable

TIMEOUT_S = 20.0
"""Slurm's own commands try again for some time where the controller is being restarted."""

_WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD")
"""Source: squeue(1), JOB STATE CODES: states of jobs that hold no node."""


_GPU_TYPE = re.compile(r"(?:^|,)gpu:([A-Za-z][^:,()]*)")


class SlurmClient(Protocol):
    """What the commands ask of Slurm."""

    def active_jobs(self) -> frozenset[int]:
        """Give the ids of the jobs that have nodes: running, suspended, or not yet cleaned up after.

        Each element of an array, and each part of a heterogeneous job, has an id of its own: the one that prologs,
        steps and SPANK plugins (S_JOB_ID) know it by.

        Raises:
            SlurmUnavailable: there is no answer, or none that can be read.
        """


class CommandClient:
    """Asks by Slurm's own commands, found by PATH.

    Args:
        timeout_s: How long one command may take.
    """

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s

    def active_jobs(self) -> frozenset[int]:
        # %A is the job's own id, also of an array's element (%i is 7_2 there); --all: in hidden partitions, too.
        jobs = set()
        for line in self._ask(["squeue", "--noheader", "--all", "--format=%A %T"]).splitlines():
            job, _, state = line.strip().partition(" ")
            if not job.isdigit():
                raise SlurmUnavailable(f"squeue answered {line[:80]!r}", hint="run: squeue --format='%A %T'")
            if state not in _WAITING:
                jobs.add(int(job))
        return frozenset(jobs)

    def gpu_types(self, partition: str = "") -> list[str]:
        """Give the types of GPUs in a partition's nodes, or in all, as gres.conf calls them, e.g. ``h100``.

        Raises:
            SlurmUnavailable: there is no answer, or no such partition.
        """
        # sinfo takes one of the two alone.
        which = f"--partition={partition}" if partition else "--all"
        lines = self._ask(["sinfo", "--noheader", which, "--format=%G"]).splitlines()
        if partition and not lines:
            raise SlurmUnavailable(f"Slurm has no partition {partition!r}", hint="see: sinfo")
        return sorted({kind for line in lines for kind in _GPU_TYPE.findall(line)})

    def _ask(self, command: list[str]) -> str:
        # A user's SQUEUE_STATES, SINFO_PARTITION or SLURM_CLUSTERS must not choose what is seen.
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("SQUEUE_", "SINFO_", "SLURM_"))
        }
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
