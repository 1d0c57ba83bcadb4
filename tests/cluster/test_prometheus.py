"""The product's own Prometheus, with real exporters: it knows jobs, nodes and GPUs, whatever happens around it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.cluster import Cluster
from lab.dcgm import MAPPING, DcgmExporter
from lab.prometheus import TARGETS, Prometheus, package_database

from .conftest import COMMAND, SYSTEM, plugstack

if TYPE_CHECKING:
    from lab.cluster import Job

# A test does not wait for a minute.
CONFIG = f"""\
monitoring:
  scrape_interval: 1
  refresh_interval: 1
  gpu_mapping_dir: {MAPPING}
"""


class Monitored:
    """A cluster of two nodes with two GPUs each, and the Prometheus that `monitoring install` has set up."""

    def __init__(self, cluster: Cluster, prometheus: Prometheus, dcgm: dict[str, DcgmExporter]) -> None:
        self.cluster = cluster
        self.prometheus = prometheus
        self.dcgm = dcgm

    def start_job(self, *options: str) -> Job:
        """Have ada's job run until it is cancelled."""
        job = self.cluster.sbatch("#!/bin/sh\nexec sleep 600\n", "--job-name=train", *options)
        self.cluster.wait_until(lambda: self.cluster.show_job(job)[0]["JobState"] == "RUNNING", "the job runs")
        return job

    def wait_for(self, query: str, expected: list[dict[str, str]]) -> None:
        """Wait until a query's answer has these labels, among others, and no other series."""

        def matches() -> bool:
            found = [sample.labels for sample in self.prometheus.query(query)]
            return len(found) == len(expected) and all(
                any(wanted.items() <= labels.items() for labels in found) for wanted in expected
            )

        self.cluster.wait_until(matches, f"{query} answers {expected}")


@pytest.fixture(scope="module")
def monitored(tmp_path_factory: pytest.TempPathFactory, installation: Path) -> Iterator[Monitored]:
    share = installation / "share/slurm-fsx"
    with Cluster.start(
        tmp_path_factory.mktemp("monitored"),
        nodes=2,
        gpus=2,
        installation=installation,
        plugstack=plugstack("bwrap"),
        prolog=[share / "prolog.d/50-slurm-fsx"],
        epilog=[share / "epilog.d/50-slurm-fsx"],
        binds=[package_database(SYSTEM)],
        system=SYSTEM,
    ) as cluster:
        cluster.write_on_all("/etc/slurm-fsx/config.yaml", CONFIG)
        # One of them adds a label for each job of a GPU.
        dcgm = {
            name: DcgmExporter.start(node, gpus=2, mapping=MAPPING if name == "n2" else "")
            for name, node in cluster.nodes.items()
        }
        with Prometheus.install(cluster) as prometheus:
            yield Monitored(cluster, prometheus, dcgm)


@pytest.fixture(autouse=True)
def no_jobs(monitored: Monitored) -> None:
    """Each test begins without a job."""
    monitored.cluster.wait_until_idle()


def test_a_node_is_up_when_its_first_job_starts(monitored: Monitored) -> None:
    job = monitored.start_job("--nodes=2")
    exporters = [
        {"node": node, "exporter": exporter, "cluster": "lab", "instance": f"{node}:{port}"}
        for node in ("n1", "n2")
        for exporter, port in (("node_exporter", 9100), ("dcgm-exporter", 9400))
    ]
    monitored.wait_for('up{job="slurm-fsx"} == 1', exporters)
    monitored.cluster.cancel(job)
    monitored.wait_for('up{job="slurm-fsx-head"} == 1', [{"node": "head", "cluster": "lab", "instance": "head:9100"}])


def test_which_job_uses_this_gpu_at_what_utilisation_is_one_query(monitored: Monitored) -> None:
    job = monitored.start_job("--nodes=1", "--nodelist=n1", "--gres=gpu:1")
    dcgm = monitored.dcgm["n1"]
    dcgm.set(0, DCGM_FI_DEV_GPU_UTIL=87)
    dcgm.set(1, DCGM_FI_DEV_GPU_UTIL=3)
    query = f'slurm_fsx:job_gpu_utilization{{UUID="{dcgm.uuids[0]}"}}'
    answer = {"jobid": str(job.id), "user": "ada", "node": "n1", "gpu": "0", "cluster": "lab"}
    monitored.wait_for(f"{query} == 0.87", [answer])
    monitored.wait_for("slurm_fsx:job_gpu_utilization", [answer])
    monitored.wait_for("slurm_fsx:job_info", [{"jobid": str(job.id), "node": "n1", "gpus": "0"}])
    monitored.wait_for("slurm_fsx:job_cpu_utilization", [{"jobid": str(job.id), "node": "n1"}])
    monitored.cluster.cancel(job)
    monitored.wait_for('{__name__=~"slurm_fsx(_|:)job_.*"}', [])
    dcgm.set(0, DCGM_FI_DEV_GPU_UTIL=0)
    dcgm.set(1, DCGM_FI_DEV_GPU_UTIL=0)


def test_two_jobs_on_a_node_are_told_apart(monitored: Monitored) -> None:
    jobs = [monitored.start_job("--nodelist=n2", "--gres=gpu:1") for _ in range(2)]
    gpus = [{"jobid": str(job.id), "node": "n2", "gpu": str(gpu)} for gpu, job in enumerate(jobs)]
    monitored.wait_for("slurm_fsx:job_gpu_utilization", gpus)
    monitored.wait_for(
        'DCGM_FI_DEV_GPU_UTIL{node="n2"}', [{"hpc_job": gpu["jobid"], "gpu": gpu["gpu"]} for gpu in gpus]
    )
    monitored.cluster.cancel(jobs[0])
    monitored.wait_for("slurm_fsx:job_gpu_utilization", gpus[1:])
    monitored.cluster.cancel(jobs[1])
    monitored.wait_for("slurm_fsx:job_gpu_utilization", [])


def test_a_jobs_account_and_name_are_there_once_the_head_node_has_told_them(monitored: Monitored) -> None:
    job = monitored.start_job("--nodelist=n1", "--account=ml", "--gres=gpu:1")
    monitored.wait_for("slurm_fsx:job_info", [{"jobid": str(job.id)}])
    done = monitored.cluster.run_on("head", [COMMAND, "monitoring", "sync"])
    assert done.returncode == 0, done.stdout + done.stderr
    monitored.wait_for("slurm_fsx:job_info", [{"jobid": str(job.id), "account": "ml", "job_name": "train"}])
    monitored.wait_for("slurm_fsx:job_gpu_utilization", [{"jobid": str(job.id), "account": "ml"}])
    monitored.wait_for("slurm_fsx:registered_nodes == 2", [{"cluster": "lab"}])
    monitored.cluster.cancel(job)
    monitored.wait_for("slurm_fsx:job_info", [])


def test_files_of_targets_that_are_broken_or_somebody_elses_hurt_no_other(monitored: Monitored) -> None:
    cluster = monitored.cluster
    cluster.run_on("head", ["rm", "-f", f"{TARGETS}/n1.json"])
    monitored.wait_for('up{job="slurm-fsx", exporter="node_exporter"}', [{"node": "n2"}])
    cluster.head.write(f"{TARGETS}/broken.json", '[{"targets": ["n1:91')
    cluster.head.write(f"{TARGETS}/theirs.json", '[{"targets": ["n2:9100"], "labels": {"node": "n2"}}]')
    job = monitored.start_job("--nodelist=n1")
    cluster.run_on("n1", [COMMAND, "monitoring", "register"])  # its prolog has looked before
    monitored.wait_for(
        'up{job="slurm-fsx", node="n1"} == 1', [{"exporter": "node_exporter"}, {"exporter": "dcgm-exporter"}]
    )
    monitored.wait_for("slurm_fsx:job_info", [{"jobid": str(job.id)}])
    [counted] = monitored.prometheus.query("prometheus_sd_file_read_errors_total")
    assert counted.value > 0
    cluster.run_on("head", ["rm", f"{TARGETS}/broken.json", f"{TARGETS}/theirs.json"])
    cluster.cancel(job)


def test_a_prometheus_that_was_away_knows_what_runs(monitored: Monitored) -> None:
    job = monitored.start_job("--nodelist=n1", "--gres=gpu:2")
    expected = [{"jobid": str(job.id), "gpu": str(gpu)} for gpu in (0, 1)]
    monitored.wait_for("slurm_fsx:job_gpu_utilization", expected)
    monitored.prometheus.stop_server()
    monitored.prometheus.go_on()
    # What it remembers does not count: it is to have looked again.
    monitored.wait_for(f"timestamp(slurm_fsx_job_gpu_info) > {time.time()}", expected)
    monitored.wait_for("slurm_fsx:job_gpu_utilization", expected)
    monitored.cluster.cancel(job)
    monitored.wait_for("slurm_fsx:job_gpu_utilization", [])


def test_a_gpu_that_falls_off_the_bus_raises_its_alert(monitored: Monitored) -> None:
    job = monitored.start_job("--nodelist=n2")
    monitored.dcgm["n2"].set(1, DCGM_FI_DEV_XID_ERRORS=79)
    monitored.wait_for(
        'ALERTS{alertname="SlurmFsxGpuXidError", alertstate="firing"}', [{"node": "n2", "gpu": "1", "cluster": "lab"}]
    )
    monitored.dcgm["n2"].set(1, DCGM_FI_DEV_XID_ERRORS=0)
    monitored.cluster.cancel(job)


def test_installed_once_more_nothing_changes(monitored: Monitored) -> None:
    done = monitored.cluster.run_on("head", [COMMAND, "monitoring", "install"])
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Prometheus is set up for lab: http://127.0.0.1:9090\n"
    assert monitored.cluster.run_on("head", [COMMAND, "monitoring", "install", "--dry-run"]).stdout == ""


def test_what_a_site_adds_to_a_prometheus_of_its_own_is_a_configuration(monitored: Monitored) -> None:
    head = monitored.cluster.head
    done = head.run([COMMAND, "monitoring", "install", "--print"], user="ada")
    assert done.returncode == 0, done.stderr
    addition, rules = done.stdout.split("# /etc/prometheus/slurm-fsx.rules.yml:\n")
    head.write("/root/prometheus.yml", addition)
    checked = head.run(["promtool", "check", "config", "/root/prometheus.yml"])
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert rules == head.path("/etc/prometheus/slurm-fsx.rules.yml").read_text()
