"""``srun true`` with the plugin and without, on a private cluster."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from lab.cluster import CHECKOUT, HOME, Cluster

from .figures import Figure

if TYPE_CHECKING:
    from pathlib import Path

ROUNDS = 31
PLUGSTACK = [f"optional {HOME}/lib/slurm/spank_slurm_fsx.so line={line}" for line in ("before", "after")]


def measure(folder: Path) -> list[Figure]:
    """Run steps of one allocation in turn with the plugin and without, so that scheduling is no part of it."""
    times: dict[bool, list[float]] = {True: [], False: []}
    with Cluster.start(folder, nodes=1, installation=CHECKOUT / ".venv") as cluster:
        job = cluster.sbatch("#!/bin/sh\nsleep 600\n")
        cluster.wait_until(lambda: cluster.show_job(job)[0]["JobState"] == "RUNNING", "the job running")
        for number in range(2 * (ROUNDS + 2)):
            with_plugin = number % 2 == 0
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
