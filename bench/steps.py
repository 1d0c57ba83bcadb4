"""``srun true`` with the plugin and without, on a private cluster."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from lab.cluster import CHECKOUT, HOME, Cluster
from lab.nccl import install_nccl

from .figures import Figure

if TYPE_CHECKING:
    from pathlib import Path

ROUNDS = 151
"""On a busy machine two runs of the same step differ by a fifth: fewer pairs do not tell 1.05 from 1."""

PLUGSTACK = [f"optional {HOME}/lib/slurm/spank_slurm_fsx.so line={line}" for line in ("before", "after")]


def measure(folder: Path) -> list[Figure]:
    """Run steps of one allocation in turn with the plugin and without, so that scheduling is no part of it."""
    times: dict[bool, list[float]] = {True: [], False: []}
    prolog = CHECKOUT / ".venv/share/slurm-fsx/prolog.d/50-slurm-fsx"
    with Cluster.start(folder, nodes=1, installation=CHECKOUT / ".venv", prolog=[prolog]) as cluster:
        install_nccl(cluster.fsx)
        job = cluster.sbatch("#!/bin/sh\nsleep 600\n")
        cluster.wait_until(lambda: cluster.show_job(job)[0]["JobState"] == "RUNNING", "the job running")
        environment = cluster.machine("n1").path(f"/run/slurm-fsx/jobs/{job.id}.env")
        cluster.wait_until(environment.exists, "the job's environment, for the plugin to apply")
        for number in range(2 * (ROUNDS + 2)):
            with_plugin = number % 4 in (0, 3)  # neither is always the first of its pair
            cluster.set_plugstack(PLUGSTACK if with_plugin else [])
            before = time.perf_counter()
            done = cluster.srun(f"--jobid={job.id}", "--overlap", "true")
            elapsed = time.perf_counter() - before
            if done.returncode != 0:
                raise SystemExit(f"srun: {done.stderr}")
            if number >= 4:
                times[with_plugin].append(elapsed * 1000)
        cluster.cancel(job)
    value, floor = statistics.median(times[True]), statistics.median(times[False])
    return [Figure.against_floor("srun true, with the plugin or without", value, floor, "ms", 1.05)]
