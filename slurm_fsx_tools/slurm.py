"""Slurm, as commands see it: the one place that runs a Slurm command. Prologs and epilogs never do."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

from .errors import SlurmUnavailable
from .node_sets import fold
from .slurm_state import SlurmNode

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMEOUT_S = 20.0
"""Slurm's own commands try again for some time where the controller is being restarted."""

_WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD")
"""Source: squeue(1), JOB STATE CODES: states of jobs that hold no node."""


_GPUS = re.compile(r"(?:^|,)gpu(?::[^:,()]+)?:(\d+)")
_MARKS = "*~#!%$@^-+"
"""Source: sinfo(1), NODE STATE CODES: what may stand behind a state."""

_GPU_TYPE = re.compile(r"(?:^|,)gpu:([A-Za-z][^:,()]*)")


class CommandClient:
    """Asks by Slurm's own commands, found by PATH.

    Args:
        timeout_s: How long one command may take.
    """

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s

    def nodes(self) -> list[SlurmNode]:
        # A line for each node and partition; --all: of hidden partitions, too. The order of fields is ours, so a
        # release that adds a state adds a word here, and nothing else.
        nodes: dict[str, SlurmNode] = {}
        for line in self._ask(["sinfo", "--Node", "--noheader", "--all", "--format=%N|%T|%P|%a|%G"]).splitlines():
            name, *rest = line.strip().split("|")
            if not name or len(rest) != 4:
                raise SlurmUnavailable(f"sinfo answered {line[:80]!r}", hint="run: sinfo --Node")
            word, partition, availability, gres = rest
            state = word.rstrip(_MARKS).lower()
            node = nodes.get(name, SlurmNode(name, state, word[len(state) :], gpus=_gpus(gres)))
            is_default = partition.endswith("*")
            if availability == "up" and (is_default or not node.partition):
                node = node._replace(partition=partition.rstrip("*"))
            nodes[name] = node
        return list(nodes.values())

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
        try:
            done = subprocess.run(
                command,
                env=own_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=self._timeout_s,
                check=False,
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


def _gpus(gres: str) -> int:
    """Count GPUs in a node's generic resources, e.g. ``gpu:a100:8(S:0-1),nic:16``."""
    return sum(int(number) for number in _GPUS.findall(gres))


def own_environment() -> dict[str, str]:
    """Give this process's environment for a command of Slurm's, without what would choose for it.

    A user's SQUEUE_STATES, SINFO_PARTITION or SLURM_CLUSTERS must not choose what is seen, nor the job around us where
    a step runs.
    """
    chosen = ("SQUEUE_", "SINFO_", "SRUN_", "SLURM_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(chosen)}
    kept.update({name: os.environ[name] for name in ("SLURM_CONF",) if name in os.environ})
    return kept


def run_on_node(
    node: SlurmNode, command: Sequence[str], *, job_name: str, immediate_s: int, limit_s: float
) -> list[str]:
    """Give the command line that runs a command as this user on one node, in a small job of its own.

    It never waits behind other jobs: where they leave no room for it, srun gives up. Nothing of the caller's
    environment or folder goes along, and no GPU or memory beyond a little is asked for.

    Args:
        node: Where; it must take jobs.
        command: The program, by its whole path, and its arguments.
        job_name: The job's name, by which it can be cancelled.
        immediate_s: How long srun may try to start it, in whole seconds.
        limit_s: After this the job is ended by Slurm, should srun die before it.
    """
    return [
        *("srun", "--quiet", f"--nodelist={node.name}", "--nodes=1", "--ntasks=1", "--cpus-per-task=1"),
        *(f"--partition={node.partition}", f"--immediate={max(1, immediate_s)}", "--oversubscribe"),
        *("--mem=200M", "--gres=none", "--mpi=none", "--export=NONE", "--chdir=/", "--input=none"),
        *(f"--time={int(limit_s // 60) + 2}", f"--job-name={job_name}", *command),
    ]


def run_on_gpus(
    command: Sequence[str],
    *,
    nodes: Sequence[str] | int,
    gpus_per_node: int,
    partition: str,
    limit_s: float,
    options: Sequence[str] = (),
) -> list[str]:
    """Give the command line that runs a program on all GPUs of some nodes, one task a GPU, as soon as they are free.

    Each task sees all GPUs of its node, and takes its own by its local rank, as MPI programs do.

    Args:
        command: The program, by its whole path, and its arguments.
        nodes: Which ones, or how many.
        gpus_per_node: How many each of them has.
        partition: The partition, or an empty string for Slurm's default.
        limit_s: How long it may run.
        options: More options of srun.
    """
    chosen = [f"--nodes={nodes}"] if isinstance(nodes, int) else [f"--nodes={len(nodes)}", f"--nodelist={fold(nodes)}"]
    return [
        *("srun", *chosen, f"--ntasks-per-node={gpus_per_node}", f"--gres=gpu:{gpus_per_node}", "--exclusive"),
        *(f"--time={max(1, int(limit_s // 60))}", "--job-name=nccl-test", "--kill-on-bad-exit=1", "--input=none"),
        *([f"--partition={partition}"] if partition else []),
        *(*options, *command),
    ]


def run_one_task(command: Sequence[str], *, immediate_s: int, limit_s: float, options: Sequence[str] = ()) -> list[str]:
    """Give the command line that runs a program as an ordinary one-task job, with the environment that jobs get.

    Args:
        command: The program and its arguments.
        immediate_s: How long it may wait for room, in whole seconds.
        limit_s: How long it may run.
        options: More options of srun.
    """
    limits = (f"--immediate={immediate_s}", f"--time={int(limit_s // 60) + 1}", "--job-name=nccl-verify")
    return ["srun", "--ntasks=1", "--input=none", "--quiet", *limits, *options, *command]


def is_busy_answer(text: str) -> bool:
    """Whether srun said that it gave up because other jobs leave no room."""
    return "Unable to allocate resources" in text and "busy" in text


def cancel_by_name(job_name: str, timeout_s: float = TIMEOUT_S) -> None:
    """Cancel this user's jobs of a name; nothing is said if Slurm does not answer."""
    command = ["scancel", "--quiet", f"--name={job_name}", f"--user={os.geteuid()}"]
    try:
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False)
    except (OSError, subprocess.TimeoutExpired):
        pass  # the job's own time limit ends it
