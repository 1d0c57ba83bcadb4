"""The archive of `make dist` on a node: how soon its command answers, and how long an upgrade takes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from lab.cluster import CHECKOUT, HOME, Cluster

from .figures import Figure
from .node import FLOOR, PYTHON, ROUNDS

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = f"{HOME}/bin/slurm-fsx"


def measure(folder: Path) -> list[Figure]:
    """Measure on a node that had nothing of ours before."""
    dist = folder / "dist"
    subprocess.run([sys.executable, "-m", "archive", dist], cwd=CHECKOUT, check=True, capture_output=True)
    archive = next(dist.glob("*.tar.gz"))
    with Cluster.start(folder / "cluster", nodes=1, fsx=dist) as cluster:
        bare = f"cd $(mktemp -d) && tar -xzf /fsx/{archive.name} && sh slurm-fsx-*/install.sh"
        before = time.monotonic()
        run(cluster, ["sh", "-c", bare])
        installed_s = time.monotonic() - before
        shown = run(cluster, [COMMAND, "--version"])
        if not shown.startswith("slurm-fsx ") or "(build " not in shown:
            raise SystemExit(f"the command answered {shown!r}")
        commands = {"version": [[COMMAND, "--version"], {}], "floor": [FLOOR, {}]}
        paired = ["sh", "-c", f"cd {CHECKOUT} && exec {PYTHON} -m bench.pairs {ROUNDS}"]
        times = json.loads(run(cluster, paired, json.dumps(commands)))
    return [
        Figure.against_floor("slurm-fsx --version, as installed", times["version"], times["floor"], "ms", 3),
        Figure.absolute("installing an archive on a node", installed_s, "s", 10),
    ]


def run(cluster: Cluster, command: list[str], told: str | None = None) -> str:
    """Run a command on the node, and give its output."""
    done = cluster.run_on("n1", command, input=told)
    if done.returncode != 0:
        raise SystemExit(f"{command} ended with {done.returncode}: {done.stderr}")
    return done.stdout
