"""The doctor as a whole process: on a node in order, and on one where everything hangs that can."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from lab.cluster import CHECKOUT, HOME, Cluster
from lab.nccl import install_nccl

from .figures import Figure

if TYPE_CHECKING:
    from pathlib import Path

ROUNDS = 7
COMMAND = [f"{HOME}/bin/slurm-fsx", "doctor"]
PLUGIN = f"{HOME}/lib/slurm/spank_slurm_fsx.so"
ENROOT = "/usr/local/bin/enroot"
PYXIS = "/usr/local/lib/slurm/spank_pyxis.so"


def measure(folder: Path) -> list[Figure]:
    """Measure on a compute node with an NCCL installation; each run must find what is wrong, and only that."""
    plugstack = [f"optional {PLUGIN} line=before", f"optional {PYXIS}", f"optional {PLUGIN} line=after"]
    with Cluster.start(folder, nodes=1, installation=CHECKOUT / ".venv", plugstack=plugstack) as cluster:
        install_nccl(cluster.fsx)
        healthy = sorted(run(cluster, []) for _ in range(ROUNDS))[ROUNDS // 2]
        cluster.nodes["n1"].write(ENROOT, "#!/bin/sh\nexec sleep 600\n", 0o755)
        cluster.nodes["n1"].hang_fsx()
        cluster.slurmctld.pause()
        hung = run(cluster, ["/fsx did not answer", "scontrol gave no answer", "enroot gave no answer"])
        cluster.slurmctld.go_on()
    return [
        Figure.absolute("doctor, a node in order", healthy, "s", 3),
        Figure.absolute("doctor, /fsx, slurmctld and enroot hung", hung, "s", 10),
    ]


def run(cluster: Cluster, hung: list[str]) -> float:
    """Run it, see that it found what hangs, and give the seconds it took."""
    begun_s = time.monotonic()
    done = cluster.run_on("n1", COMMAND)
    elapsed_s = time.monotonic() - begun_s
    is_right = all(text in done.stdout for text in hung) if hung else "no answer within" not in done.stdout
    if "checks in" not in done.stdout or not is_right:
        raise SystemExit(f"the doctor did not do its work:\n{done.stdout}{done.stderr}")
    return elapsed_s
