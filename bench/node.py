"""Prolog, epilog and task prolog as whole processes, inside a node of a private cluster."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lab.cluster import CHECKOUT, HOME, Cluster
from lab.nccl import install_nccl

from .figures import Figure

if TYPE_CHECKING:
    from pathlib import Path

ROUNDS = 41
PYTHON = f"{HOME}/bin/python3"
SHARE = f"{HOME}/share/slurm-fsx"
FLOOR = [PYTHON, "-I", "-c", "pass"]
ENVIRONMENT = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_UID": "2001",
    "SLURM_JOB_USER": "ada",
    "SLURM_JOB_PARTITION": "all",
    "SLURMD_NODENAME": "n1",
    "SLURM_CLUSTER_NAME": "lab",
}


def measure(folder: Path) -> list[Figure]:
    """Measure on a node with an NCCL installation that the last prolog knew, and targets that are registered."""
    with Cluster.start(folder, nodes=1, installation=CHECKOUT / ".venv") as cluster:
        install_nccl(cluster.fsx)
        (cluster.fsx / "monitoring/targets").mkdir(parents=True)
        prolog = [f"{SHARE}/prolog.d/50-slurm-fsx"]
        epilog = [f"{SHARE}/epilog.d/50-slurm-fsx"]
        task_prolog = [f"{SHARE}/task_prolog.d/slurm-fsx"]
        cluster.run_on("n1", prolog, env=ENVIRONMENT)
        calls = count_calls(cluster, prolog)
        times = {
            name: pair(cluster, argv, floor)
            for name, argv, floor in (
                ("task prolog script", task_prolog, ["/bin/sh", "-c", ":"]),
                ("prolog, whole process", prolog, FLOOR),
                ("epilog, whole process", epilog, FLOOR),
            )
        }
    limits = {"prolog, whole process": 4, "epilog, whole process": 4, "task prolog script": 3}
    figures = [Figure.against_floor(name, *times[name], "ms", limit) for name, limit in limits.items()]
    return [*figures, Figure.absolute("calls under /fsx in a prolog", calls, "", 5)]


def pair(cluster: Cluster, argv: list[str], floor: list[str]) -> tuple[float, float]:
    """Time a command and its floor in turn; give their medians in ms."""
    commands = {"value": [argv, ENVIRONMENT], "floor": [floor, ENVIRONMENT]}
    done = cluster.run_on(
        "n1", ["/bin/sh", "-c", f"cd {CHECKOUT} && exec {PYTHON} -m bench.pairs {ROUNDS}"], input=json.dumps(commands)
    )
    if done.returncode != 0:
        raise SystemExit(f"{argv}: {done.stderr}")
    medians = json.loads(done.stdout)
    return medians["value"], medians["floor"]


def count_calls(cluster: Cluster, argv: list[str]) -> int:
    """Count the system calls of a command, children included, that name a path below /fsx."""
    done = cluster.run_on("n1", ["strace", "-f", "-qq", "-e", "trace=%file", *argv], env=ENVIRONMENT)
    return sum('"/fsx' in line for line in done.stderr.splitlines())
