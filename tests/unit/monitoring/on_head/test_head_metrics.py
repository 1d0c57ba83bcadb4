from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.monitoring.on_head.head_metrics import write_head_metrics, write_sync_metrics
from slurm_fsx_tools.slurm_state import SlurmJob, SlurmNode

if TYPE_CHECKING:
    from pathlib import Path

    from ..conftest import NodeExporter

RUNNING = SlurmJob(7, "ada", 2001, "phys", "gpu", 'a "name"\n', "RUNNING", "gpu-[1-2]", 2, 16, 1.7e9)


def test_node_exporter_tells_prometheus_what_a_pass_found(node_exporter: NodeExporter, textfile_dir: Path) -> None:
    config = Config({"monitoring.textfile_dir": str(textfile_dir)})
    nodes = [
        SlurmNode("n1", "idle"),
        SlurmNode("n2", "idle"),
        SlurmNode("n3", "idle", "*"),
        SlurmNode("n4", "idle", "~"),
        SlurmNode("n5", "mixed", "#"),
        SlurmNode("n6", "future"),
    ]
    waiting = SlurmJob(8, "bob", 2002, state="PENDING")
    of_no_name = SlurmJob(9, "", 4711, state="COMPLETING", nodes="n1")
    write_head_metrics(config, nodes, [RUNNING, waiting, of_no_name], 3, {"done": 2, "failed": 1}, 1.75e9)
    write_sync_metrics(config, success=True)
    jobs = {labels.pop("jobid"): labels for labels, _ in node_exporter.samples("slurm_fsx_cluster_job_info")}
    assert set(jobs) == {"7", "9"}
    assert jobs["7"] == {
        "user": "ada",
        "account": "phys",
        "partition": "gpu",
        "job_name": 'a "name"\n',
        "state": "RUNNING",
        "nodes": "gpu-[1-2]",
        "gpus": "16",
    }
    assert jobs["9"]["user"] == "4711"
    states = {labels["state"]: value for labels, value in node_exporter.samples("slurm_fsx_nodes")}
    assert states == {"idle": 2, "down": 1, "powered_off": 1, "powering_up": 1, "future": 1}
    imports = {labels["result"]: value for labels, value in node_exporter.samples("slurm_fsx_image_imports")}
    assert imports == {"done": 2, "failed": 1}
    assert node_exporter.samples("slurm_fsx_registered_nodes") == [({}, 3)]
    assert node_exporter.samples("slurm_fsx_sync_timestamp_seconds") == [({}, 1.75e9)]
    assert node_exporter.complaints() == ""


def test_a_pass_that_failed_leaves_the_last_state_and_says_so(node_exporter: NodeExporter, textfile_dir: Path) -> None:
    config = Config({"monitoring.textfile_dir": str(textfile_dir)})
    write_head_metrics(config, [SlurmNode("n1", "idle")], [RUNNING], 1, {}, 1.75e9)
    write_sync_metrics(config, success=True)
    write_sync_metrics(config, success=False)
    assert node_exporter.samples("slurm_fsx_sync_success") == [({}, 0)]
    assert len(node_exporter.samples("slurm_fsx_cluster_job_info")) == 1
    assert node_exporter.samples("slurm_fsx_sync_timestamp_seconds") == [({}, 1.75e9)]
