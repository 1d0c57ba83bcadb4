from __future__ import annotations

import fnmatch
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_fsx_tools.errors import InvalidName, SharedFsUnavailable
from slurm_fsx_tools.job import Node
from slurm_fsx_tools.monitoring.exporters import Exporter
from slurm_fsx_tools.monitoring.targets import (
    add_exporters,
    format_targets,
    make_target,
    missing_exporters,
    parse_targets,
    read_targets,
    set_exporters,
    target_path,
    write_targets,
)

NODE = Node("gpu-1", "train")
HOST = Exporter("node_exporter", 9100)
GPU = Exporter("dcgm-exporter", 9400)
TARGETS = {each.name: make_target(NODE, "", each) for each in (HOST, GPU)}


def test_a_nodes_file_is_what_prometheus_reads() -> None:
    assert json.loads(format_targets(TARGETS)) == [
        {"targets": ["gpu-1:9400"], "labels": {"cluster": "train", "exporter": "dcgm-exporter", "node": "gpu-1"}},
        {"targets": ["gpu-1:9100"], "labels": {"cluster": "train", "exporter": "node_exporter", "node": "gpu-1"}},
    ]


def test_a_file_is_read_as_it_was_written() -> None:
    assert parse_targets(format_targets(TARGETS), "gpu-1") == TARGETS


def test_the_order_of_plugins_does_not_change_the_file() -> None:
    assert format_targets(TARGETS) == format_targets(dict(reversed(TARGETS.items())))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b"\xff\xfe",
        format_targets(TARGETS)[:-40],
        b'[{"targets": ["gpu-1:9100"]}]',
        b'[{"targets": [], "labels": {"node": "gpu-1", "exporter": "x"}}]',
        b'[{"targets": [1], "labels": {"node": "gpu-1", "exporter": "x"}}]',
        b'[{"targets": ["gpu-1:1"], "labels": {"node": "gpu-1", "exporter": "x", "rack": 7}}]',
        b'[{"targets": ["gpu-2:1"], "labels": {"node": "gpu-2", "exporter": "x"}}]',
        b"[" * 100_000,
    ],
)
def test_what_is_broken_or_another_nodes_is_no_file_of_a_node(data: bytes) -> None:
    assert parse_targets(data, "gpu-1") is None


def test_only_a_change_is_written(fsx: Path) -> None:
    path = fsx / "monitoring/targets/gpu-1.json"
    assert write_targets(str(fsx), "gpu-1", TARGETS)
    first = path.stat()
    assert not write_targets(str(fsx), "gpu-1", TARGETS)
    # Reading may change the atime.
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
    assert write_targets(str(fsx), "gpu-1", {"dcgm-exporter": TARGETS["dcgm-exporter"]})
    assert path.stat().st_ino != first.st_ino


def test_exporters_are_added_and_the_others_and_their_labels_stay(fsx: Path) -> None:
    from_slurm = {"partition": "all,gpu", "instance_type": "p5.48xlarge"}
    before = {"node_exporter": make_target(NODE, "", HOST, {**from_slurm, "rack": "7"})}
    write_targets(str(fsx), "gpu-1", before)
    assert add_exporters(str(fsx), NODE, "", [GPU])
    after = read_targets(str(fsx), "gpu-1")
    assert after is not None
    assert after["node_exporter"] == before["node_exporter"]
    assert after["dcgm-exporter"] == make_target(NODE, "", GPU, from_slurm)
    assert not add_exporters(str(fsx), NODE, "", [GPU])


def test_setting_takes_away_what_is_not_offered_any_more(fsx: Path) -> None:
    write_targets(str(fsx), "gpu-1", {**TARGETS, "old": make_target(NODE, "", Exporter("old", 9999))})
    assert set_exporters(str(fsx), NODE, "", [HOST], keep=["dcgm-exporter", "never-there"])
    assert read_targets(str(fsx), "gpu-1") == TARGETS
    assert set_exporters(str(fsx), NODE, "", [])
    assert os.listdir(fsx / "monitoring/targets") == []
    assert not set_exporters(str(fsx), NODE, "", [])


@pytest.mark.parametrize(
    ("exporter", "cluster"),
    [
        pytest.param(GPU, "train", id="not-there"),
        pytest.param(HOST._replace(port=19100), "train", id="another-port"),
        pytest.param(HOST, "renamed", id="another-cluster"),
    ],
)
def test_what_a_file_does_not_say_is_missing(fsx: Path, exporter: Exporter, cluster: str) -> None:
    write_targets(str(fsx), "gpu-1", {"node_exporter": TARGETS["node_exporter"]})
    assert missing_exporters(str(fsx), NODE, "", [HOST]) == []
    assert missing_exporters(str(fsx), NODE, cluster, [exporter]) == [exporter]
    assert add_exporters(str(fsx), NODE, cluster, [exporter])
    assert missing_exporters(str(fsx), NODE, cluster, [exporter]) == []


def test_what_somebody_else_wrote_there_is_replaced(fsx: Path) -> None:
    path = fsx / "monitoring/targets/gpu-1.json"
    victim = fsx / "victim"
    victim.write_bytes(format_targets(TARGETS))
    path.symlink_to(victim)
    assert missing_exporters(str(fsx), NODE, "", [HOST]) == [HOST]
    assert add_exporters(str(fsx), NODE, "", [HOST])
    assert victim.read_bytes() == format_targets(TARGETS)
    assert not path.is_symlink()
    path.chmod(0o666)
    assert add_exporters(str(fsx), NODE, "", [HOST])
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_truncated_file_is_made_whole(fsx: Path) -> None:
    path = fsx / "monitoring/targets/gpu-1.json"
    write_targets(str(fsx), "gpu-1", TARGETS)
    os.truncate(path, 50)
    assert missing_exporters(str(fsx), NODE, "", [HOST, GPU]) == [HOST, GPU]
    assert add_exporters(str(fsx), NODE, "", [HOST, GPU])
    assert path.read_bytes() == format_targets(TARGETS)


def test_a_writer_that_is_killed_before_the_rename_leaves_nothing_that_prometheus_reads(fsx: Path) -> None:
    code = f"""
import os, signal
os.rename = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
from slurm_fsx_tools.job import Node
from slurm_fsx_tools.monitoring.exporters import Exporter
from slurm_fsx_tools.monitoring.targets import add_exporters
add_exporters({str(fsx)!r}, Node("gpu-1", "train"), "", [Exporter("node_exporter", 9100)])
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    (left,) = os.listdir(fsx / "monitoring/targets")
    assert not fnmatch.fnmatchcase(left, "*.json")
    assert add_exporters(str(fsx), NODE, "", [HOST])


def test_many_prologs_at_once_leave_one_whole_file(fsx: Path) -> None:
    path = target_path(str(fsx), "gpu-1")
    children = []
    for number in range(8):
        child = os.fork()
        if child == 0:
            for _ in range(50):
                if number == 0 and read_targets(str(fsx), "gpu-1"):
                    os.unlink(path)  # so that there is always something to write
                add_exporters(str(fsx), NODE, "", [HOST, GPU])
            os._exit(0)
        children.append(child)
    assert {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children} == {0}
    add_exporters(str(fsx), NODE, "", [HOST, GPU])
    assert os.listdir(fsx / "monitoring/targets") == ["gpu-1.json"]
    assert read_targets(str(fsx), "gpu-1") == TARGETS


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", ""])
def test_a_name_that_leaves_the_folder_is_refused(fsx: Path, name: str) -> None:
    with pytest.raises(InvalidName):
        write_targets(str(fsx), name, TARGETS)


def test_a_bare_mount_point_stays_empty(tmp_path: Path) -> None:
    with pytest.raises(SharedFsUnavailable, match="nothing is mounted"):
        write_targets(str(tmp_path), "gpu-1", TARGETS)
    assert os.listdir(tmp_path) == []
