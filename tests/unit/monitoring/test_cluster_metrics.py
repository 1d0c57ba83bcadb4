from __future__ import annotations

import subprocess

from prometheus_client.parser import text_string_to_metric_families

from slurm_fsx_tools.containers.imports.state import ImportState, count_results
from slurm_fsx_tools.monitoring.cluster_metrics import IMPORT_RESULTS, cluster_job_info, image_imports
from slurm_fsx_tools.monitoring.metrics_file import format_metrics
from slurm_fsx_tools.slurm_state import SlurmJob

JOBS = [
    SlurmJob(7, "ada", 2001, "phys", "all", 'a "b"\n', "RUNNING", "gpu-[1-2]", 2, 16, 1.7e9),
    SlurmJob(8, "", 2002, state="COMPLETING", nodes="gpu-3"),
    SlurmJob(9, "ada", 2001, state="PENDING"),
]


def test_jobs_that_have_nodes_are_told_with_what_the_controller_knows() -> None:
    data = format_metrics([cluster_job_info(JOBS)], 128)
    assert subprocess.run(["promtool", "check", "metrics"], input=data, capture_output=True).stderr == b""
    (family,) = text_string_to_metric_families(data.decode())
    assert [sample.labels["jobid"] for sample in family.samples] == ["7", "8"]
    assert family.samples[0].labels == {
        "jobid": "7",
        "user": "ada",
        "account": "phys",
        "partition": "all",
        "job_name": 'a "b"\n',
        "state": "RUNNING",
        "nodes": "gpu-[1-2]",
        "gpus": "16",
    }
    assert family.samples[1].labels["user"] == "2002"


def state(phase: str) -> ImportState:
    return ImportState("x.sqsh", "docker://x", "head", 1, phase, 0, 0, 0.0, 0.0, "")


def test_each_import_counts_once_by_its_result() -> None:
    phases = ("done", "unchanged", "kept", "failed", "died", "waiting", "checking", "verifying")
    counts = count_results(map(state, phases))
    assert counts == {"done": 3, "failed": 2, "running": 2, "waiting": 1}
    family = image_imports(counts)
    assert [(sample.labels["result"], sample.value) for sample in family.samples] == list(counts.items())
    assert tuple(counts) == IMPORT_RESULTS
    assert [sample.value for sample in image_imports({}).samples] == [0, 0, 0, 0]
