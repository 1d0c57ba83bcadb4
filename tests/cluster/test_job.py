"""A job's record on a real cluster with a real Prometheus: while it runs, and when one of the two knows nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.cluster import Cluster, Job
from lab.dcgm import DcgmExporter
from lab.images import make_image
from lab.nccl import install_nccl
from lab.node_root import Bind
from lab.prometheus import Prometheus
from slurm_fsx_tools.slurm_state import SlurmJob

from .conftest import COMMAND, SYSTEM, plugstack

IMAGE = "nvcr.io_nvidia_pytorch-24.03-py3"
PYSLURM = [folder for folder in os.environ.get("SLURM_FSX_TEST_PYSLURM", "").split(":") if folder]
"""Folders that a pyslurm for this Slurm, and what it imports, lie in; registries have none for Debian's releases."""

ANSWERS = """
import json, sys
from slurm_fsx_tools.slurm.json_client import JsonClient
from slurm_fsx_tools.slurm.pyslurm_client import PyslurmClient
from slurm_fsx_tools.slurm.text_client import TextClient
ways = [JsonClient(), TextClient(), *([PyslurmClient(folders=sys.argv[1:])] if sys.argv[1:] else [])]
def jobs(way):  # as a list, and one by one, which --json tells
    ids = sorted(job.id for job in way.jobs())
    alone = [way.job(number)._replace(end_time_s=0) for number in ids]
    assert alone == sorted(job._replace(end_time_s=0) for job in way.jobs())
    return alone
print(json.dumps([[sorted(way.nodes()), jobs(way)] for way in ways]))
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, installation: Path) -> Iterator[Cluster]:
    share = installation / "share/slurm-fsx"
    with Cluster.start(
        tmp_path_factory.mktemp("job"),
        nodes=2,
        gpus=2,
        installation=installation,
        plugstack=plugstack("bwrap"),
        prolog=[share / "prolog.d/50-slurm-fsx"],
        epilog=[share / "epilog.d/50-slurm-fsx"],
        slurm_conf={"MinJobAge": "2"},
        binds=[Bind(folder, folder, read_only=True) for folder in PYSLURM],
        system=SYSTEM,
    ) as running:
        install_nccl(running.fsx)
        make_image(running.fsx / "containers" / f"{IMAGE}.sqsh", {})
        assert running.run_on("head", [COMMAND, "containers", "index"]).returncode == 0
        yield running


@pytest.fixture(scope="module")
def prometheus(cluster: Cluster) -> Iterator[Prometheus]:
    for name, node in cluster.nodes.items():
        dcgm = DcgmExporter.start(node, gpus=2)
        dcgm.set(0, DCGM_FI_DEV_GPU_UTIL=87 if name == "n1" else 43, DCGM_FI_DEV_FB_USED=2048)
        dcgm.set(1, DCGM_FI_DEV_GPU_UTIL=5)
    with Prometheus.start(cluster) as running:
        yield running


def record(cluster: Cluster, number: int, *options: str) -> dict[str, Any]:
    done = cluster.run_on("head", [COMMAND, "job", str(number), "--json", *options])
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def start(cluster: Cluster, *options: str) -> Job:
    job = cluster.sbatch("#!/bin/sh\nexec sleep 600\n", *options)
    # Not by scontrol's text: the names here are made to mislead its readers.
    ask = ["squeue", "--noheader", f"--jobs={job.id}", "--format=%T"]
    cluster.wait_until(lambda: cluster.run_on("head", ask).stdout.strip() == "RUNNING", "the job runs")
    return job


def test_a_running_job_is_known_and_later_remembered(cluster: Cluster, prometheus: Prometheus) -> None:
    job = start(cluster, "--nodes=2", "--gres=gpu:1", "--job-name=train", "--container-name=pytorch")

    def means() -> dict[tuple[str, str], float]:
        courses = record(cluster, job.id)["courses"]
        return {(each["measure"], each["node"]): each["points"][-1][1] for each in courses}

    expected = {("GPU", "n1"): 87, ("GPU", "n2"): 43, ("GPU", ""): 65, ("GPU memory", ""): 2}
    cluster.wait_until(lambda: expected.items() <= means().items(), "the GPUs' utilisation", 60)
    cluster.wait_until(lambda: {"CPU", "memory"} <= {measure for measure, _ in means()}, "the nodes'", 60)

    running = record(cluster, job.id)
    assert (running["state"], running["user"], running["partition"]) == ("RUNNING", "ada", "all")
    assert (running["nodes"], running["gpus"], running["name"]) == (["n1", "n2"], 2, "train")
    assert running["told_by"] == ["Slurm", "Prometheus"]
    assert running["container"] == "pytorch"
    assert running["images"] == [f"{IMAGE}.sqsh"]
    assert len(running["nccl"]) == 1
    assert running["start_time_s"] > 0
    assert running["end_time_s"] == 0

    cluster.cancel(job)
    told = cluster.run_on("head", [COMMAND, "job", str(job.id), "--explain"])
    assert "Slurm is asked by --json" in told.stderr

    def is_forgotten() -> bool:
        return cluster.run_on("head", ["scontrol", "show", "job", str(job.id)]).returncode != 0

    cluster.wait_until(is_forgotten, "Slurm forgets the job", 90)
    past = record(cluster, job.id)
    assert (past["told_by"], past["state"]) == (["Prometheus"], "ended")
    assert past["start_time_s"] < past["end_time_s"]
    for key in ("user", "partition", "nodes", "gpus", "container", "images", "nccl"):
        assert past[key] == running[key], key
    assert abs(past["start_time_s"] - running["start_time_s"]) < 5
    assert {each["measure"] for each in past["courses"]} >= {"CPU", "memory", "GPU", "GPU memory"}

    picture = "/root/job.svg"
    drawn = cluster.run_on("head", [COMMAND, "job", str(job.id), "--plot", picture])
    if Path("/") != SYSTEM and drawn.returncode != 0:  # another release's installation may lack what pictures take
        assert "slurm-fsx-tools[plot]" in drawn.stderr
        return
    assert drawn.returncode == 0, drawn.stderr
    assert cluster.head.path(picture).read_bytes().startswith(b"<?xml")
    assert "GPU %" in drawn.stdout


def test_without_prometheus_slurm_tells_what_it_knows(cluster: Cluster) -> None:
    cluster.head.write("/etc/slurm-fsx/config.yaml", "monitoring: {prometheus_url: 'http://127.0.0.1:9'}\n")
    try:
        job = start(cluster, "--job-name=first\nstate      \x1b[31mFAILED")
        done = cluster.run_on("head", [COMMAND, "job", str(job.id)])
        assert cluster.run_on("head", ["scancel", str(job.id)]).returncode == 0
        cluster.wait_until_idle()
    finally:
        cluster.head.write("/etc/slurm-fsx/config.yaml", "")
    assert done.returncode == 0, done.stderr
    assert "Prometheus at http://127.0.0.1:9 does not answer: Connection refused" in done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == rf"job        {job.id} first\nstate      \x1b[31mFAILED"
    assert "state      RUNNING" in lines
    assert "told by    Slurm" in lines


def test_a_job_that_nobody_knows_is_an_error_with_the_reason(cluster: Cluster, prometheus: Prometheus) -> None:
    done = cluster.run_on("head", [COMMAND, "job", "4711"])
    assert done.returncode == 1
    assert "nobody knows of a job 4711" in done.stderr
    assert "Slurm forgets a job minutes after its end" in done.stderr


@pytest.mark.parametrize(
    "pyslurm",
    [
        pytest.param([], id="commands"),
        pytest.param(
            PYSLURM, id="pyslurm", marks=pytest.mark.skipif(not PYSLURM, reason="SLURM_FSX_TEST_PYSLURM names none")
        ),
    ],
)
def test_all_ways_of_asking_agree_whatever_users_write(cluster: Cluster, pyslurm: list[str]) -> None:
    hostile = "first\nJobId=999 JobName=x UserId=root(0) GroupId=root(0) | 7|0|RUNNING \x1b[31m"
    one = start(cluster, f"--job-name={hostile}", "--comment=a JobId=9 JobName=z", "--account=phys|ics", "--gres=gpu:1")
    three = start(cluster, "--nodes=2", "--gpus=2")
    two = cluster.sbatch("#!/bin/sh\nsleep 600\n", "--array=1-2", "--hold", f"--job-name={hostile}")
    done = cluster.run_on("head", ["/opt/slurm-fsx/bin/python3", "-I", "-c", ANSWERS, *pyslurm])
    assert cluster.run_on("head", ["scancel", str(one.id), str(two.id), str(three.id)]).returncode == 0
    cluster.wait_until_idle()
    assert done.returncode == 0, done.stderr
    first, *others = json.loads(done.stdout)
    assert others == [first] * (2 if pyslurm else 1)
    nodes, jobs = first
    assert [node[:2] for node in nodes] == [["n1", "mixed"], ["n2", "mixed"]]
    assert {job[0] for job in jobs} >= {one.id, two.id, three.id}
    assert [SlurmJob(*job).gpus for job in jobs if job[0] in (one.id, three.id)] == [1, 2]
    assert hostile in next(job for job in jobs if job[0] == one.id)
