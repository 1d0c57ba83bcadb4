"""Hundreds of prologs and epilogs at once on one node's files of metrics, mapping and counters: nothing lost or left.

What runs is what the hooks of a prolog and an epilog call, each in a process of its own, so that they meet as closely
as they can: whole prologs would come one by one, as fast as two cores start Python.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from typing import TYPE_CHECKING

from slurm_fsx_tools import counters
from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.errors import SlurmFsxError
from slurm_fsx_tools.job import Job
from slurm_fsx_tools.monitoring.on_node import (  # before the crowd
    around_job,
    gpu_mapping,
    gpus,
    health_metrics,
    job_info,
)

from .figures import Figure

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

JOBS = 500
GPUS = 8
LOADED = (gpu_mapping, gpus, health_metrics, job_info)


def measure(folder: Path) -> list[Figure]:
    """Start all jobs at once, then end all at once, then kill half of those that start, and let one more job come."""
    jobs = folder / "run/jobs"
    jobs.mkdir(parents=True)
    config = Config(
        {
            "runtime_dir": str(folder / "run"),
            "monitoring.textfile_dir": str(folder / "metrics"),
            "monitoring.gpu_mapping_dir": str(folder / "mapping"),
        }
    )
    crowd = Crowd(folder, config)
    failed = crowd.run(crowd.prolog)
    lost = failed + JOBS - len(list((folder / "metrics").glob("slurm_fsx_job_*.prom")))
    lines = Counter(line for path in crowd.mapping() for line in path.read_text().split())
    lost += JOBS - len(lines) + sum(count - 1 for count in lines.values())
    failed = crowd.run(crowd.epilog)
    lost += failed + sum(
        abs(JOBS - sum(tally.buckets)) for tally in counters.read_counts(config["runtime_dir"]).values()
    )
    left = crowd.left()
    crowd.run(crowd.prolog, kill_every=2)
    for path in jobs.iterdir():
        path.unlink()
    crowd.prolog(JOBS + 1)
    crowd.epilog(JOBS + 1)
    return [
        Figure.absolute(f"{JOBS} prologs and epilogs at once: lost", lost, "", 0),
        Figure.absolute(f"{JOBS} prologs and epilogs at once: left", left, "", 0),
        Figure.absolute(f"{JOBS} prologs, half killed: left", crowd.left(), "", 0),
    ]


class Crowd:
    """Processes that do at the same moment what a prolog or an epilog does for monitoring."""

    def __init__(self, folder: Path, config: Config) -> None:
        self._folder = folder
        self._config = config

    def run(self, act: Callable[[int], None], kill_every: int = 0) -> int:
        """Let all jobs do something at once; give how many of them failed, but for the killed ones."""
        gate, opener = os.pipe()
        children = []
        for number in range(1, JOBS + 1):
            child = os.fork()
            if child == 0:
                os.close(opener)
                os.read(gate, 1)  # ends when the gate is opened
                code = 1
                try:
                    act(number)
                    code = 0
                except (OSError, SlurmFsxError) as error:
                    os.write(2, f"job {number}: {error}\n".encode())
                finally:
                    os._exit(code)
            children.append(child)
        os.close(gate)
        os.close(opener)
        for number, child in enumerate(children):
            if kill_every and number % kill_every == 0:
                os.kill(child, signal.SIGKILL)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        return sum(code > 0 for code in codes)

    def prolog(self, number: int) -> None:
        """What a prolog does, without what it does for others."""
        (self._folder / f"run/jobs/{number}.env").touch()
        around_job.tell_start(self._job(number), {}, self._config)
        counters.count(self._config["runtime_dir"], "prolog", 0.05, False)

    def epilog(self, number: int) -> None:
        """What an epilog does."""
        (self._folder / f"run/jobs/{number}.env").unlink()
        around_job.tell_end(self._job(number), self._config)
        counters.count(self._config["runtime_dir"], "epilog", 0.05, False)

    def mapping(self) -> list[Path]:
        """The files that dcgm-exporter reads."""
        return [path for path in (self._folder / "mapping").iterdir() if path.is_file()]

    def left(self) -> int:
        """Count what no job should have left."""
        names = [name for name in os.listdir(self._folder / "metrics") if name != "slurm_fsx_health.prom"]
        staged = os.listdir(self._folder / "mapping/.slurm-fsx")
        return len(names) + len(self.mapping()) + len(staged)

    def _job(self, number: int) -> Job:
        gpu = str(number % GPUS)
        return Job.from_environment({"SLURM_JOB_ID": str(number), "SLURM_JOB_GPUS": gpu, "SLURMD_NODENAME": "n1"})
