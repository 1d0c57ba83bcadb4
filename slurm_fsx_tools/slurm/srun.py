"""Command lines of ``srun`` for what the commands run as jobs, and what its answers mean."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from ..node_sets import fold
from .commands import TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..slurm_state import SlurmNode


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
