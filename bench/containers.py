"""Named containers on a private cluster: the first start against a warm one, and many at once.

With Pyxis and enroot where `lab.pyxis` finds them, else with the tests' stand-in, whose own start is shorter.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from pathlib import Path

from lab.cluster import CHECKOUT, HOME, Cluster
from lab.images import make_image
from lab.pyxis import PLUGIN, Pyxis, make_data_folders

from .figures import Figure

ROUNDS = 31
FILE_BYTES = 80_000
SIZES = {"160 MB": 2_000, "1.6 GB": 20_000}
"""The number of files of each image; nothing in them can be compressed."""

AT_ONCE = 32


def measure(folder: Path) -> list[Figure]:
    """Start containers of both images, each for the first time and again, and many of one name at once."""
    pyxis = Pyxis.from_environment()
    options = "container_scope=job"
    if pyxis is None:
        folder.mkdir()
        pyxis = Pyxis.stand_in(folder / "standin")
        options += " data=/var/lib/standin"
    ours = f"optional {HOME}/lib/slurm/spank_slurm_fsx.so container_scope=job"
    plugstack = [f"{ours} line=before", f"required {PLUGIN} {options}", f"{ours} line=after"]
    with Cluster.start(folder, nodes=1, installation=CHECKOUT / ".venv", plugstack=plugstack, pyxis=pyxis) as cluster:
        make_data_folders(cluster.machines)
        for files in SIZES.values():
            make_image(cluster.fsx / f"{files}.sqsh", tree=make_tree(folder / "tree", files))
        job = cluster.sbatch("#!/bin/sh\nsleep 3600\n")
        cluster.wait_until(lambda: cluster.show_job(job)[0]["JobState"] == "RUNNING", "the job running")
        times = starts(cluster, job.id)
        figures = [
            Figure.against_floor(f"first start of a container, {size}", *times[files], "ms", 1.3)
            for size, files in SIZES.items()
        ]
        small, large = (times[files][0] for files in SIZES.values())
        figures.append(Figure.against_floor("first start, 1.6 GB against 160 MB", large, small, "ms", 1.3))
        figures += crowd(cluster, job.id, min(SIZES.values()))
        cluster.cancel(job)
        cluster.wait_until_idle()
    return figures


def make_tree(folder: Path, files: int) -> Path:
    """Write files of random bytes, a hundred in a folder."""
    for number in range(files):
        path = folder / str(number // 100) / str(number)
        if number % 100 == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(os.urandom(FILE_BYTES))
    return folder


def command(job: int, files: int, name: str) -> list[str]:
    """A step of a job in the container of that name."""
    return [f"--jobid={job}", "--overlap", f"--container-image=/fsx/{files}.sqsh", f"--container-name={name}", "true"]


def starts(cluster: Cluster, job: int) -> dict[int, tuple[float, float]]:
    """Time the first and the second start of containers of each image; give the medians of both in ms.

    In turn: enroot looks through the containers that there are, so each start takes a little longer than the last one.
    """
    times: dict[tuple[int, int], list[float]] = {(files, again): [] for files in SIZES.values() for again in (0, 1)}
    for number in range(ROUNDS + 1):
        for files, again in times:
            before = time.perf_counter()
            done = cluster.srun(*command(job, files, f"of{files}-{number}"))
            elapsed = time.perf_counter() - before
            if done.returncode != 0:
                raise SystemExit(f"srun: {done.stderr}")
            if number > 0:  # the first one reads the image from disk
                times[files, again].append(elapsed * 1000)
    if len(mounts(cluster)) != len(SIZES) * (ROUNDS + 1):
        raise SystemExit(f"the containers were not prepared:\n{cluster.slurmd_log('n1')}")
    return {files: (statistics.median(times[files, 0]), statistics.median(times[files, 1])) for files in SIZES.values()}


def crowd(cluster: Cluster, job: int, files: int) -> list[Figure]:
    """Start many steps with one name at once; count those that failed, and the mounts."""
    before = len(mounts(cluster))
    arguments = ["srun", *command(job, files, "crowd")]
    running = [
        cluster.head.start_process(arguments, "ada", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(AT_ONCE)
    ]
    failed = sum(process.wait(300) != 0 for process in running)
    made = len(mounts(cluster)) - before
    if made == 0:
        raise SystemExit(f"the container was not prepared:\n{cluster.slurmd_log('n1')}")
    return [
        Figure.absolute(f"failed of {AT_ONCE} starts of one name at once", failed, "", 0),
        Figure.absolute("mounts that they made", made, "", 1),
    ]


def mounts(cluster: Cluster) -> list[str]:
    """The overlays of prepared roots on the node."""
    lines = Path(f"/proc/{cluster.nodes['n1'].pid}/mountinfo").read_text().splitlines()
    return [line for line in lines if " - overlay /var/lib/slurm-fsx/containers/roots/" in line]
