"""What nodes say of their jobs, on real nodes, to a real node_exporter and to what reads dcgm-exporter's mapping."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.cluster import Cluster, Job
from lab.dcgm import MAPPING, DcgmExporter
from lab.nccl import install_nccl
from lab.prometheus import TEXTFILES, Prometheus

from .conftest import COMMAND, SYSTEM, plugstack

CONFIG = f"monitoring: {{gpu_mapping_dir: {MAPPING}, label_limit: 40}}\n"
LAST = """import os, time
from slurm_fsx_tools import hookimpl
@hookimpl
def slurm_fsx_prolog(job):
    if job.id in open("/etc/slurm-fsx/misdeeds").read().split():
        raise RuntimeError("a site's plugin is broken")
"""


class Node:
    """A node with two GPUs, which tells of its jobs."""

    def __init__(self, cluster: Cluster, prometheus: Prometheus, dcgm: DcgmExporter) -> None:
        self.cluster = cluster
        self.prometheus = prometheus
        self.dcgm = dcgm
        self.textfiles = cluster.machine("n1").path(TEXTFILES)
        self.mapping = cluster.machine("n1").path(MAPPING)

    def start_job(self, *options: str) -> Job:
        job = self.cluster.sbatch("#!/bin/sh\necho begun\nsleep 600\n", *options)
        # Its prolog has written everything by then.
        self.cluster.wait_until(lambda: "begun" in job.output, f"job {job.id} runs")
        return job

    def end_job(self, job: Job) -> None:
        self.cluster.cancel(job)
        self.cluster.wait_until_idle()

    def file(self, job: Job) -> Path:
        return self.textfiles / f"slurm_fsx_job_{job.id}.prom"

    def shown(self, name: str, wanted: int = 1) -> list[dict[str, str]]:
        """Give a metric's labels, once Prometheus has as many series of it as are wanted."""
        self.cluster.wait_until(lambda: len(self.prometheus.query(name)) == wanted, f"{wanted} series of {name}")
        return [sample.labels for sample in self.prometheus.query(name)]

    def counter(self, name: str) -> float:
        found = self.prometheus.query(name)
        return found[0].value if found else -1.0

    def mapped(self) -> dict[str, str]:
        if not self.mapping.exists():
            return {}
        return {path.name: path.read_text() for path in self.mapping.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, installation: Path) -> Iterator[Node]:
    share = installation / "share/slurm-fsx"
    with Cluster.start(
        tmp_path_factory.mktemp("job-info"),
        nodes=1,
        gpus=2,
        installation=installation,
        plugstack=plugstack("bwrap"),
        prolog=[share / "prolog.d/50-slurm-fsx"],
        epilog=[share / "epilog.d/50-slurm-fsx"],
        system=SYSTEM,
    ) as cluster:
        install_nccl(cluster.fsx)
        cluster.write_on_all("/etc/slurm-fsx/config.yaml", CONFIG)
        cluster.write_on_all("/etc/slurm-fsx/misdeeds", "")
        cluster.write_on_all("/etc/slurm-fsx/plugins.d/site.py", LAST)
        cluster.write_on_all(
            "/fsx/monitoring/targets/n1.json",
            json.dumps([{"targets": ["n1:9100"], "labels": {"node": "n1", "exporter": "node_exporter"}}]),
        )
        dcgm = DcgmExporter.start(cluster.nodes["n1"], gpus=2, mapping=MAPPING)
        with Prometheus.start(cluster) as prometheus:
            yield Node(cluster, prometheus, dcgm)


@pytest.fixture(autouse=True)
def no_jobs(node: Node) -> Iterator[None]:
    """Each test begins and ends without a job, and nothing is left of those it had."""
    yield
    node.cluster.head.run(["scancel", "--user=ada"])  # those of a test that failed
    node.cluster.wait_until_idle()
    node.cluster.wait_until(
        lambda: [path.name for path in node.textfiles.iterdir()] == ["slurm_fsx_health.prom"], "no file of any job"
    )
    assert node.mapped() == {}


def test_a_job_is_there_with_its_gpus_from_its_start_to_its_end(node: Node) -> None:
    job = node.start_job("--gres=gpu:2", "--job-name", 'fit "x"')
    (info,) = node.shown("slurm_fsx_job_info")
    expected = {"jobid": str(job.id), "user": "ada", "partition": "all", "node": "n1", "gpus": "0,1"}
    assert expected.items() <= info.items()
    assert info["nccl"]
    gpus = node.shown("slurm_fsx_job_gpu_info", 2)
    assert [(gpu["gpu"], gpu["UUID"]) for gpu in gpus] == list(zip("01", node.dcgm.uuids))
    assert node.mapped() == {"0": f"{job.id}\n", "1": f"{job.id}\n"}
    (start,) = node.prometheus.query("time() - slurm_fsx_job_start_time_seconds")
    assert -5 < start.value < 300
    node.end_job(job)
    node.shown("slurm_fsx_job_info", 0)


def test_jobs_that_share_a_node_are_told_apart(node: Node) -> None:
    first, second = (node.start_job("--gres=gpu:1") for _ in range(2))
    assert node.mapped() == {"0": f"{first.id}\n", "1": f"{second.id}\n"}
    gpus = node.shown("slurm_fsx_job_gpu_info", 2)
    assert {gpu["jobid"]: gpu["gpu"] for gpu in gpus} == {str(first.id): "0", str(second.id): "1"}
    node.cluster.cancel(first)
    node.cluster.wait_until(lambda: not node.file(first).exists(), "the first job's end")
    assert node.mapped() == {"1": f"{second.id}\n"}
    node.end_job(second)


def test_a_job_that_vanished_is_forgotten_at_the_next(node: Node) -> None:
    (node.textfiles / "slurm_fsx_job_999999.prom").write_text('slurm_fsx_job_info{jobid="999999",node="n1"} 1\n')
    node.shown("slurm_fsx_job_info")
    job = node.start_job()
    assert [info["jobid"] for info in node.shown('slurm_fsx_job_info{jobid!="999999"}')] == [str(job.id)]
    node.shown('slurm_fsx_job_info{jobid="999999"}', 0)
    node.end_job(job)


def test_a_job_that_did_not_outlive_a_reboot_is_forgotten_at_the_boot(node: Node) -> None:
    lasting = node.start_job("--gres=gpu:1")
    (node.textfiles / "slurm_fsx_job_999999.prom").write_text('slurm_fsx_job_info{jobid="999999",node="n1"} 1\n')
    (node.mapping / "1").write_text("999999\n")
    done = node.cluster.run_on("n1", [COMMAND, "monitoring", "register", "--wait=10"])
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in node.textfiles.glob("*_job_*")) == [f"slurm_fsx_job_{lasting.id}.prom"]
    assert node.mapped() == {"0": f"{lasting.id}\n"}
    node.end_job(lasting)


def test_a_job_whose_epilog_script_did_not_run_is_forgotten_at_the_next(node: Node) -> None:
    script = node.cluster.slurm_etc / "epilog.d/50-slurm-fsx"
    ours = script.read_text()
    script.write_text("#!/bin/sh\nexit 0\n")
    try:
        job = node.start_job()
        node.end_job(job)
    finally:
        script.write_text(ours)
    assert node.file(job).exists()
    assert node.cluster.srun("true").returncode == 0
    assert not node.file(job).exists()


def test_prologs_and_epilogs_are_counted_and_a_failure_is_told_at_once(node: Node) -> None:
    node.cluster.srun("true")
    failures = 'slurm_fsx_fail_open_total{act="prolog"}'
    node.cluster.wait_until(lambda: node.counter(failures) >= 0, "a count of failures")
    before = node.counter(failures)
    coming = int(node.cluster.sbatch("#!/bin/sh\nsleep 1\n", "--hold").id)
    node.cluster.write_on_all("/etc/slurm-fsx/misdeeds", f"{coming} {coming + 1}")
    job = node.start_job()
    node.cluster.wait_until(lambda: node.counter(failures) == before + 1, "the failure, while its job runs")
    assert node.counter("slurm_fsx_prolog_duration_seconds_count") >= 2
    assert node.counter("slurm_fsx_prolog_duration_seconds_sum") > 0
    node.cluster.run_on("head", ["scancel", str(coming)])
    node.end_job(job)


def test_a_name_that_has_no_image_is_counted_where_its_step_starts(node: Node) -> None:
    node.cluster.srun("true")
    misses = "slurm_fsx_resolution_misses_total"
    node.cluster.wait_until(lambda: node.counter(misses) >= 0, "a count of misses")
    before = node.counter(misses)
    assert node.cluster.srun("--container-name=no-such-image", "true").returncode != 0

    def told() -> bool:
        node.cluster.srun("true")  # a later job tells of it
        return node.counter(misses) == before + 1

    node.cluster.wait_until(told, "the miss")


def test_where_the_folder_is_a_link_the_job_starts_and_the_log_says_why(node: Node) -> None:
    kept = node.textfiles.with_name("kept")
    node.textfiles.rename(kept)
    node.cluster.run_on("n1", ["mkdir", "--mode=0777", "/var/tmp/theirs"])
    node.textfiles.symlink_to("/var/tmp/theirs")
    try:
        assert node.cluster.srun("true").returncode == 0
        syslog: Any = node.cluster.machine("n1").syslog
        assert f"{TEXTFILES} is no folder of its own" in str(syslog)
        assert list(node.cluster.machine("n1").path("/var/tmp/theirs").iterdir()) == []
        node.cluster.wait_until_idle()
    finally:
        node.textfiles.unlink()
        kept.rename(node.textfiles)
