from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.counters import FILE
from slurm_fsx_tools.deadline import Limit
from slurm_fsx_tools.errors import DeadlineExceeded, UntrustedFile
from slurm_fsx_tools.job import Job
from slurm_fsx_tools.monitoring.on_node.around_job import forget_vanished, tell_start

JOB = Job.from_environment({"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "0", "SLURMD_NODENAME": "n1"})
HOLDER = "import sys; from slurm_fsx_tools.counters import lock; held = [lock(p) for p in sys.argv[1:]]; print(held); "


@pytest.fixture
def mapped(config: Config, tmp_path: Path) -> Config:
    """A node with dcgm-exporter's mapping, on which a job's prolog has begun."""
    (tmp_path / "run/jobs").mkdir()
    return Config({**config.as_dict(), "monitoring.gpu_mapping_dir": str(tmp_path / "mapping")})


def test_what_fails_keeps_the_rest_from_nothing(mapped: Config, tmp_path: Path) -> None:
    (tmp_path / "textfiles").symlink_to(tmp_path)
    with pytest.raises(UntrustedFile):
        tell_start(JOB, {}, mapped)
    assert (tmp_path / "mapping/0").read_text() == "7\n"


def test_when_the_time_is_up_nothing_more_is_waited_for(mapped: Config, tmp_path: Path) -> None:
    locks = [str(tmp_path / "run" / name) for name in ("gpu-mapping.lock", FILE)]
    command = [sys.executable, "-c", HOLDER + "sys.stdout.flush(); input()", *locks]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(DeadlineExceeded), Limit(0.2, "telling"):
            tell_start(JOB, {}, mapped)
        holder.kill()
    assert os.listdir(tmp_path / "textfiles") == ["slurm_fsx_job_7.prom"]


def test_a_reboot_ends_every_job(mapped: Config, tmp_path: Path) -> None:
    (tmp_path / "run/jobs/7.env").touch()
    tell_start(JOB, {}, mapped)
    forget_vanished(mapped)
    assert (tmp_path / "textfiles/slurm_fsx_job_7.prom").exists()
    (tmp_path / "run/jobs/7.env").unlink()
    (tmp_path / "run/jobs").rmdir()  # as it is before the first prolog
    forget_vanished(mapped)
    assert not (tmp_path / "textfiles/slurm_fsx_job_7.prom").exists()
    assert not (tmp_path / "mapping/0").exists()
