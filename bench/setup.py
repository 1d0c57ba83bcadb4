"""Set-up of a compute node that has everything, as a whole process: what each boot and each run again costs."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from lab.cluster import CHECKOUT, HOME, Cluster

from .figures import Figure

if TYPE_CHECKING:
    from pathlib import Path

ROUNDS = 11
COMMAND = [f"{HOME}/bin/slurm-fsx", "setup", "node", "--wait", "0"]


def measure(folder: Path) -> list[Figure]:
    """Measure on a node whose head node is set up, too."""
    with Cluster.start(folder, nodes=1, installation=CHECKOUT / ".venv") as cluster:
        for node, arguments in (("head", ["head", "--no-images", "--no-prometheus"]), ("head", ["hooks"]), ("n1", [])):
            command = [*COMMAND[:2], *arguments] if arguments else COMMAND
            done = cluster.run_on(node, command)
            if done.returncode != 0:
                raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        times = []
        for _ in range(ROUNDS):
            begun_s = time.monotonic()
            done = cluster.run_on("n1", COMMAND)
            times.append(time.monotonic() - begun_s)
            if "changed" in done.stdout or done.returncode != 0:
                raise SystemExit(f"there was something to do: {done.stdout}{done.stderr}")
    return [Figure.absolute("setup node, nothing to do", statistics.median(times), "s", 2)]
