from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.counters import count
from slurm_fsx_tools.errors import UntrustedFile
from slurm_fsx_tools.job import Job
from slurm_fsx_tools.monitoring.on_node import around_job
from slurm_fsx_tools.monitoring.on_node.gpus import Gpu
from slurm_fsx_tools.monitoring.on_node.job_info import image_file, job_info_metrics, write_job_info

if TYPE_CHECKING:
    from ..conftest import NodeExporter

ENVIRONMENT = {
    "SLURM_JOB_UID": "2001",
    "SLURM_JOB_USER": "ada",
    "SLURM_JOB_PARTITION": "all",
    "SLURMD_NODENAME": "n1",
    "SLURM_JOB_GPUS": "0,1",
}


def job(number: int = 7, **more: str) -> Job:
    return Job.from_environment({**ENVIRONMENT, "SLURM_JOB_ID": str(number), **more})


class Jobs:
    """Jobs that come to a node and leave it."""

    def __init__(self, folder: Path, textfile_dir: Path) -> None:
        self.textfile_dir = textfile_dir
        self.env = folder / "run/jobs"
        self.env.mkdir(parents=True)
        self.config = Config({"runtime_dir": f"{folder}/run", "monitoring.textfile_dir": str(textfile_dir)})

    def start(self, number: int = 7, **more: str) -> None:
        (self.env / f"{number}.env").touch()
        around_job.tell_start(job(number, **more), {"nccl": "2.28.7-1"}, self.config)

    def end(self, number: int = 7) -> None:
        (self.env / f"{number}.env").unlink(missing_ok=True)
        around_job.tell_end(job(number), self.config)

    @property
    def files(self) -> set[str]:
        return set(os.listdir(self.textfile_dir)) - {"slurm_fsx_health.prom"}


@pytest.fixture
def jobs(tmp_path: Path, textfile_dir: Path) -> Jobs:
    return Jobs(tmp_path, textfile_dir)


def labels(family: Any) -> list[dict[str, str]]:
    return [dict(sample.labels) for sample in family.samples]


def test_a_job_is_told_with_what_its_prolog_knows() -> None:
    found = job(
        SPANK__SLURM_SPANK_OPTION_pyxis_container_name="pytorch", SLURM_JOB_ACCOUNT="phys", SLURM_JOB_NAME="fit"
    )
    info, start, gpu_info = job_info_metrics(found, [Gpu("1", "GPU-a")], {"nccl": "2.28.7-1"}, 1.7e9)
    assert labels(info) == [
        {
            "jobid": "7",
            "user": "ada",
            "account": "phys",
            "partition": "all",
            "job_name": "fit",
            "node": "n1",
            "gpus": "1",
            "container": "pytorch",
            "image": "",
            "nccl": "2.28.7-1",
        }
    ]
    assert [(sample.labels, sample.value) for sample in start.samples] == [({"jobid": "7", "node": "n1"}, 1700000000)]
    own = {"jobid": "7", "node": "n1", "user": "ada", "account": "phys"}
    assert labels(gpu_info) == [{**own, "gpu": "1", "UUID": "GPU-a"}]


def test_a_user_without_a_name_is_told_by_number() -> None:
    info = job_info_metrics(job(SLURM_JOB_USER=""), [], {}, 0)[0]
    assert (labels(info)[0]["user"], labels(info)[0]["gpus"]) == ("2001", "0,1")


@pytest.mark.parametrize(
    ("given", "file"),
    [
        pytest.param({}, "", id="no-container"),
        pytest.param({"SPANK_SLURM_FSX_CONTAINER_IMAGE": "/fsx/containers/a-1.sqsh"}, "a-1.sqsh", id="found"),
        pytest.param({"SPANK__SLURM_SPANK_OPTION_pyxis_container_image": "/x/b.sqsh"}, "b.sqsh", id="path"),
        pytest.param({"SPANK__SLURM_SPANK_OPTION_pyxis_container_image": "nvcr.io#x:1"}, "", id="not-known-yet"),
    ],
)
def test_the_image_is_told_where_it_is_known(given: dict[str, str], file: str) -> None:
    assert image_file(job(**given)) == file


def test_node_exporter_shows_jobs_from_start_to_end(jobs: Jobs, node_exporter: NodeExporter) -> None:
    jobs.start(7, SLURM_JOB_NAME='evil"} 1\nslurm_fsx_forged 1\n' + "x" * 10_000 + "\udcff")
    jobs.start(8, SLURM_JOB_GPUS="")
    shown = {found["jobid"]: found for found, _ in node_exporter.samples("slurm_fsx_job_info")}
    assert set(shown) == {"7", "8"}
    assert shown["7"]["job_name"].startswith('evil"} 1\nslurm_fsx_forged 1\nxxx')
    assert len(shown["7"]["job_name"]) == 128
    assert node_exporter.samples("slurm_fsx_forged") == []
    assert [found["gpu"] for found, _ in node_exporter.samples("slurm_fsx_job_gpu_info")] == ["0", "1"]
    jobs.end(7)
    assert [found["jobid"] for found, _ in node_exporter.samples("slurm_fsx_job_start_time_seconds")] == ["8"]
    jobs.end(8)
    assert node_exporter.samples("slurm_fsx_job_info") == []
    assert node_exporter.complaints() == ""


def test_an_epilog_may_run_twice_without_a_prolog_and_a_job_may_come_back(jobs: Jobs) -> None:
    jobs.end()
    jobs.start()
    jobs.start()
    assert jobs.files == {"slurm_fsx_job_7.prom"}
    jobs.end()
    jobs.end()
    assert jobs.files == set()


@pytest.mark.parametrize("act", ["start", "end"])
def test_the_next_job_takes_away_what_vanished_jobs_left(jobs: Jobs, act: str) -> None:
    jobs.start(7)
    jobs.start(8)
    (jobs.env / "7.env").unlink()
    (jobs.textfile_dir / "slurm_fsx_job_x.prom").write_text("not ours")
    (jobs.textfile_dir / "ipmi.prom").write_text("not ours")
    getattr(jobs, act)(9)
    expected = {"slurm_fsx_job_8.prom", "slurm_fsx_job_x.prom", "ipmi.prom"}
    assert jobs.files == expected | ({"slurm_fsx_job_9.prom"} if act == "start" else set())


DIES_AT_THE_RENAME = """
import os, signal, sys
from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.job import Job
from slurm_fsx_tools.monitoring.on_node.job_info import write_job_info
os.rename = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
write_job_info(Job.from_environment({"SLURM_JOB_ID": "9"}), [], {}, Config({"monitoring.textfile_dir": sys.argv[1]}), 0)
"""


def test_what_a_killed_prolog_left_half_written_is_taken_away(jobs: Jobs, node_exporter: NodeExporter) -> None:
    jobs.start(7)
    killed = subprocess.run([sys.executable, "-c", DIES_AT_THE_RENAME, str(jobs.textfile_dir)], check=False)
    assert killed.returncode == -9
    assert len(jobs.files) == 2
    assert [found["jobid"] for found, _ in node_exporter.samples("slurm_fsx_job_info")] == ["7"]
    mine = f".slurm_fsx_job_10.prom.n1.{os.getpid()}"
    (jobs.textfile_dir / mine).touch()
    jobs.start(8)
    # One that is being written stays.
    assert jobs.files == {"slurm_fsx_job_7.prom", "slurm_fsx_job_8.prom", mine}


def test_where_metrics_cannot_be_written_the_mapping_still_is(jobs: Jobs, tmp_path: Path) -> None:
    jobs.textfile_dir.parent.mkdir()
    jobs.textfile_dir.symlink_to(tmp_path)
    mapping = {"monitoring.gpu_mapping_dir": f"{tmp_path}/mapping"}
    jobs.config = Config({**jobs.config.as_dict(), **mapping})
    with pytest.raises(UntrustedFile):
        jobs.start(7)
    assert (tmp_path / "mapping/0").read_text() == "7\n"
    assert not list(tmp_path.glob("*.prom"))


def test_our_own_health_is_shown_beside_the_jobs(jobs: Jobs, node_exporter: NodeExporter) -> None:
    runtime_dir = jobs.config["runtime_dir"]
    count(runtime_dir, "prolog", 0.06, False)
    count(runtime_dir, "prolog", 12.0, True)
    Path(runtime_dir, "resolution-misses").write_bytes(b"..")
    jobs.start()
    buckets = {
        float(found["le"]): value for found, value in node_exporter.samples("slurm_fsx_prolog_duration_seconds_bucket")
    }
    assert tuple(buckets[bound] for bound in (0.05, 0.1, 10, 30, math.inf)) == (0, 1, 1, 2, 2)
    assert node_exporter.samples("slurm_fsx_prolog_duration_seconds_sum") == [({}, 12.06)]
    assert node_exporter.samples("slurm_fsx_epilog_duration_seconds_count") == [({}, 0)]
    assert node_exporter.samples("slurm_fsx_fail_open_total") == [({"act": "epilog"}, 0), ({"act": "prolog"}, 1)]
    assert node_exporter.samples("slurm_fsx_resolution_misses_total") == [({}, 2)]
    data = (jobs.textfile_dir / "slurm_fsx_health.prom").read_bytes()
    assert subprocess.run(["promtool", "check", "metrics"], input=data, capture_output=True).stderr == b""


def test_a_missing_folder_of_jobs_takes_nothing_away(jobs: Jobs) -> None:
    write_job_info(job(8), [], {}, jobs.config, 0)
    jobs.env.rmdir()
    with pytest.raises(FileNotFoundError):
        around_job.tell_end(job(7), jobs.config)
    assert jobs.files == {"slurm_fsx_job_8.prom"}


def test_among_many_jobs_our_health_is_written_now_and_then_but_a_failure_at_once(jobs: Jobs) -> None:
    jobs.start()
    health = jobs.textfile_dir / "slurm_fsx_health.prom"
    first = health.stat().st_ino
    count(jobs.config["runtime_dir"], "prolog", 0.06, True)
    jobs.end()
    assert health.stat().st_ino == first
    around_job.tell_failure(jobs.config)
    assert 'slurm_fsx_fail_open_total{act="prolog"} 1\n' in health.read_text()


@pytest.mark.parametrize("jump_s", [-3600, 3600])
def test_a_clock_that_jumped_does_not_keep_our_health_from_being_written(jobs: Jobs, jump_s: int) -> None:
    jobs.start()
    health = jobs.textfile_dir / "slurm_fsx_health.prom"
    first = health.stat()
    os.utime(health, (first.st_mtime + jump_s, first.st_mtime + jump_s))
    jobs.end()
    assert health.stat().st_ino != first.st_ino
