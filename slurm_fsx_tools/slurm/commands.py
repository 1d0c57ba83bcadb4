"""Slurm's own commands: how one is asked, and what is asked in the same way whatever else works on this cluster."""

from __future__ import annotations

import os
import re
import subprocess

from ..errors import SlurmUnavailable
from .states import WAITING, Partition

TIMEOUT_S = 20.0
"""Slurm's own commands try again for some time where the controller is being restarted."""

_GPU_TYPE = re.compile(r"(?:^|,)gpu:([A-Za-z][^:,()]*)")
_PARTITION = re.compile(r"(?:^| )(PartitionName|Default|State)=(\S*)")
_RELEASE = re.compile(r"(\d+)\.(\d+)")


class WayUnfit(SlurmUnavailable):
    """A way of asking Slurm that does not work on this cluster; another one may."""


class CommandClient:
    """Asks by Slurm's own commands, found by PATH, what takes one and the same command from 22.05 on.

    Nothing that a user wrote is in these answers.

    Args:
        timeout_s: How long one command may take.
    """

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s

    def active_jobs(self) -> dict[int, int]:
        # %A is the job's own id, also of an array's element (%i is 7_2 there); --all: in hidden partitions, too.
        jobs = {}
        for line in self._ask("squeue", "--noheader", "--all", "--format=%A %U %T").splitlines():
            words = line.split()
            if len(words) != 3 or not (words[0].isdigit() and words[1].isdigit()):
                raise SlurmUnavailable(f"squeue answered {line[:80]!r}", hint="run: squeue --format='%A %U %T'")
            if words[2] not in WAITING:
                jobs[int(words[0])] = int(words[1])
        return jobs

    def cluster_name(self) -> str:
        return self._configured("ClusterName")

    def controller_address(self) -> str:
        """Give ``HOST:PORT`` of the first slurmctld; empty where there is no answer."""
        host = self._configured("SlurmctldHost[0]").partition("(")[0]  # "head", "head(10.0.0.254)"
        port = self._configured("SlurmctldPort").partition("-")[0]  # "6817", "6820-6829": it listens on each
        return f"{host}:{port}" if host and port.isdigit() else ""

    def _configured(self, key: str) -> str:
        """Give a value of Slurm's configuration; empty where it has none, or does not answer."""
        try:
            lines = self._ask("scontrol", "show", "config").splitlines()
        except SlurmUnavailable:
            return ""
        pairs = (line.partition("=") for line in lines)
        return next((value.strip() for name, _, value in pairs if name.strip() == key), "")

    def gpu_types(self, partition: str = "") -> list[str]:
        """Give the types of GPUs in a partition's nodes, or in all, as gres.conf calls them, e.g. ``h100``.

        Raises:
            SlurmUnavailable: there is no answer, or no such partition.
        """
        # sinfo takes one of the two alone.
        which = f"--partition={partition}" if partition else "--all"
        lines = self._ask("sinfo", "--noheader", which, "--format=%G").splitlines()
        if partition and not lines:
            raise SlurmUnavailable(f"Slurm has no partition {partition!r}", hint="see: sinfo")
        return sorted({kind for line in lines for kind in _GPU_TYPE.findall(line)})

    def partitions(self) -> dict[str, Partition]:
        """Give all partitions, hidden ones too, by name.

        Raises:
            SlurmUnavailable: there is no answer, or none that can be read.
        """
        found = {}
        for line in self._ask("scontrol", "--all", "--oneliner", "show", "partitions").splitlines():
            # The first of each key counts.
            values = dict(reversed(_PARTITION.findall(line)))
            if len(values) != 3:
                if line == "No partitions in the system":
                    continue
                raise SlurmUnavailable(f"scontrol answered {line[:80]!r}", hint="run: scontrol show partitions")
            name = values["PartitionName"]
            found[name] = Partition(name, values["State"] == "UP", values["Default"] == "YES")
        return found

    def release(self) -> tuple[int, int]:
        """Give the release of the commands here, e.g. (22, 5).

        Raises:
            SlurmUnavailable: they are not there, or do not say.
        """
        said = self._ask("sinfo", "--version")  # "slurm-wlm 22.05.8", "slurm 24.11.5"
        match = _RELEASE.search(said)
        if match is None:
            raise SlurmUnavailable(f"sinfo answered {said[:80]!r}", hint="run: sinfo --version")
        return int(match[1]), int(match[2])

    def _ask(self, *command: str) -> str:
        return ask(command, self._timeout_s)


class CommandFailed(SlurmUnavailable):
    """A command of Slurm's that ended with an error; its last line is in the message."""

    @property
    def is_controllers(self) -> bool:
        """Whether it is slurmctld that does not answer: no other way of asking does better then."""
        return "slurm_load_" in self.message or "contact slurm controller" in self.message

    @property
    def is_about_unknown_job(self) -> bool:
        """Whether Slurm said that it knows no such job, or not any more."""
        return "Invalid job id" in self.message


def ask(command: tuple[str, ...], timeout_s: float) -> str:
    """Run one of Slurm's commands, and give what it prints. Times are printed in seconds since 1970.

    Raises:
        CommandFailed: it ended with an error.
        SlurmUnavailable: it cannot be run, or did not end in time.
    """
    try:
        done = subprocess.run(
            command,
            env={**own_environment(), "SLURM_TIME_FORMAT": "%s"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError as error:
        raise SlurmUnavailable(f"{command[0]} is not installed", hint="run this where Slurm's commands are") from error
    except OSError as error:
        raise SlurmUnavailable(f"{command[0]} cannot be run: {error.strerror}", hint="mend it") from error
    except subprocess.TimeoutExpired as error:
        raise SlurmUnavailable(
            f"{command[0]} gave no answer within {timeout_s:g} s", hint="see: scontrol ping"
        ) from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["nothing"]
        # An option that a command does not know is told before the advice to read its help.
        telling = next((line for line in said if "unrecognized option" in line), said[-1])
        raise CommandFailed(f"{command[0]} ended with {done.returncode}: {telling}", hint="see: scontrol ping")
    return done.stdout.decode(errors="replace")


def own_environment() -> dict[str, str]:
    """Give this process's environment for a command of Slurm's, without what would choose for it.

    A user's SQUEUE_STATES, SINFO_PARTITION or SLURM_CLUSTERS must not choose what is seen, nor the job around us where
    a step runs.
    """
    chosen = ("SQUEUE_", "SINFO_", "SACCT_", "SCONTROL_", "SRUN_", "SLURM_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(chosen)}
    kept.update({name: os.environ[name] for name in ("SLURM_CONF",) if name in os.environ})
    return kept
