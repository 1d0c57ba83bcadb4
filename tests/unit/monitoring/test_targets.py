from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.errors import InvalidName, SharedFsUnavailable
from slurm_fsx_tools.job import Node
from slurm_fsx_tools.monitoring.exporters import Exporter, node_exporters
from slurm_fsx_tools.monitoring.targets import format_targets, write_targets

NODE = Node("gpu-1", "train")
EXPORTERS = [Exporter("node_exporter", 9100), Exporter("dcgm-exporter", 9400)]


@pytest.fixture
def fsx(tmp_path: Path) -> Path:
    """A shared file system on which the head node's set-up has run."""
    (tmp_path / "monitoring/targets").mkdir(parents=True)
    return tmp_path


def test_a_nodes_file_is_what_prometheus_reads() -> None:
    assert json.loads(format_targets(NODE, "", EXPORTERS)) == [
        {"targets": ["gpu-1:9400"], "labels": {"cluster": "train", "exporter": "dcgm-exporter", "node": "gpu-1"}},
        {"targets": ["gpu-1:9100"], "labels": {"cluster": "train", "exporter": "node_exporter", "node": "gpu-1"}},
    ]


def test_the_order_of_plugins_does_not_change_the_file() -> None:
    assert format_targets(NODE, "x", EXPORTERS) == format_targets(NODE, "x", EXPORTERS[::-1])


def test_only_a_change_is_written(fsx: Path) -> None:
    path = fsx / "monitoring/targets/gpu-1.json"
    assert write_targets(str(fsx), "gpu-1", b"[]\n")
    first = path.stat()
    assert not write_targets(str(fsx), "gpu-1", b"[]\n")
    assert path.stat() == first
    assert write_targets(str(fsx), "gpu-1", b"[1]\n")
    assert path.read_bytes() == b"[1]\n"


def test_what_somebody_else_wrote_there_is_replaced(fsx: Path) -> None:
    path = fsx / "monitoring/targets/gpu-1.json"
    victim = fsx / "victim"
    victim.write_bytes(b"precious")
    path.symlink_to(victim)
    assert write_targets(str(fsx), "gpu-1", b"[]\n")
    assert victim.read_bytes() == b"precious"
    assert path.read_bytes() == b"[]\n"


def test_prometheus_never_sees_a_half_written_file(fsx: Path) -> None:
    folder = fsx / "monitoring/targets"
    write_targets(str(fsx), "gpu-1", b"[]\n")
    assert os.listdir(folder) == ["gpu-1.json"]


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden"])
def test_a_name_that_leaves_the_folder_is_refused(fsx: Path, name: str) -> None:
    with pytest.raises(InvalidName):
        write_targets(str(fsx), name, b"[]\n")


def test_a_bare_mount_point_stays_empty(tmp_path: Path) -> None:
    with pytest.raises(SharedFsUnavailable, match="nothing is mounted"):
        write_targets(str(tmp_path), "gpu-1", b"[]\n")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("gpu", "names"), [(False, ["node_exporter"]), (True, ["node_exporter", "dcgm-exporter"])])
def test_dcgm_exporter_is_listed_where_a_gpu_is(tmp_path: Path, gpu: bool, names: list[str]) -> None:
    driver = tmp_path / "version"
    if gpu:
        driver.touch()
    assert [exporter.name for exporter in node_exporters(Config(), str(driver))] == names
