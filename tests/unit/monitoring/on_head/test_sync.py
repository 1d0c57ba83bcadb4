from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.errors import LockTimeout, SharedFsUnavailable, SlurmUnavailable
from slurm_fsx_tools.job import Node
from slurm_fsx_tools.monitoring.exporters import Exporter
from slurm_fsx_tools.monitoring.on_head.sync import Outcome, Sync
from slurm_fsx_tools.monitoring.targets import add_exporters
from slurm_fsx_tools.slurm_state import SlurmNode

if TYPE_CHECKING:
    from ..conftest import Slurm


@pytest.fixture
def sync(slurm: Slurm, config: Config) -> Sync:
    return Sync(slurm, config)


@pytest.fixture
def targets(fsx: Path) -> Path:
    return fsx / "monitoring/targets"


def acts(outcome: Outcome) -> dict[str, str]:
    return {change.node: change.act for change in outcome.done}


def inodes(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_nodes_that_never_ran_a_job_become_targets(sync: Sync, targets: Path) -> None:
    assert acts(sync.run()) == {"gpu-1": "add", "cpu-1": "add", "cpu-2": "add"}
    groups = json.loads((targets / "gpu-1.json").read_text())
    assert [group["targets"] for group in groups] == [["gpu-1:9100"]]
    assert groups[0]["labels"]["instance_type"] == "p5.48xlarge"


def test_two_clusters_with_nodes_of_the_same_name_do_not_fight_for_ever(
    sync: Sync, slurm: Slurm, config: Config, targets: Path
) -> None:
    theirs = Sync(
        type(slurm)(*slurm.known.values()),
        Config({**config.as_dict(), "cluster.name": "other", "monitoring.state_dir": f"{targets}-state"}),
    )
    sync.run()
    assert len(theirs.run().done) == 3  # as after a change of the cluster's name
    assert len(sync.run().done) == 3
    outcome = theirs.run()
    assert (outcome.done, outcome.plan.disputed, outcome.is_whole) == ([], ["gpu-1", "cpu-1", "cpu-2"], False)
    before = inodes(targets)
    for _ in range(2):
        assert sync.run().is_whole
        assert not theirs.run().is_whole
    assert inodes(targets) == before
    for file in targets.glob("*.json"):
        file.unlink()
    assert theirs.run().is_whole, "what an admin removed is nobody's"


def test_a_node_that_is_powered_down_here_may_be_another_clusters_that_runs(
    sync: Sync, slurm: Slurm, fsx: Path, targets: Path
) -> None:
    add_exporters(str(fsx), Node("gpu-1", "other"), "", [Exporter("node_exporter", 9100)])
    slurm.set("gpu-1", marks="~")
    assert set(acts(sync.run())) == {"cpu-1", "cpu-2"}
    assert (targets / "gpu-1.json").exists()


def test_a_second_pass_writes_nothing_and_one_change_one_file(sync: Sync, slurm: Slurm, targets: Path) -> None:
    sync.run()
    before = inodes(targets)
    for _ in range(3):
        assert sync.run().done == []
    assert inodes(targets) == before
    slurm.set("cpu-1", partitions=("all", "long"))
    assert acts(sync.run()) == {"cpu-1": "label"}
    assert {name for name, inode in inodes(targets).items() if before[name] != inode} == {"cpu-1.json"}


def test_what_is_remembered_is_written_only_while_something_changes(sync: Sync, config: Config) -> None:
    sync.run()
    sync.run()
    memory = Path(config["monitoring.state_dir"]) / "targets.json"
    before = memory.stat().st_ino
    sync.run()
    assert memory.stat().st_ino == before


@pytest.mark.parametrize("damage", ["truncated", "same-length", "others-may-write", "link", "gone"])
def test_what_somebody_else_did_to_a_file_is_noticed_and_mended(sync: Sync, targets: Path, damage: str) -> None:
    for _ in range(2):
        sync.run()
    file = targets / "cpu-1.json"
    good = file.read_bytes()
    if damage == "truncated":
        os.truncate(file, 20)
    elif damage == "same-length":
        status = file.stat()
        with file.open("r+b") as opened:
            opened.write(b"!")
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif damage == "others-may-write":
        file.chmod(0o666)
    else:
        file.rename(targets.parent / "elsewhere")
        if damage == "link":
            file.symlink_to(targets.parent / "elsewhere")
    assert acts(sync.run()) == {"cpu-1": "add" if damage == "gone" else "mend"}
    assert file.read_bytes() == good
    assert not file.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o644


def test_what_a_prolog_adds_between_two_passes_stays_and_gets_labels(sync: Sync, fsx: Path, targets: Path) -> None:
    for _ in range(2):
        sync.run()
    add_exporters(str(fsx), Node("cpu-1", "train"), "", [Exporter("lustre_exporter", 9169)])
    assert sync.run().done == []
    groups = json.loads((targets / "cpu-1.json").read_text())
    assert {group["labels"]["exporter"]: group["labels"]["partition"] for group in groups} == {
        "lustre_exporter": "all",
        "node_exporter": "all",
    }


def test_powered_down_and_deleted_nodes_go_and_a_down_one_stays(sync: Sync, slurm: Slurm, targets: Path) -> None:
    sync.run()
    slurm.set("gpu-1", marks="~")
    slurm.set("cpu-1", state="down", marks="*")
    del slurm.known["cpu-2"]
    assert acts(sync.run()) == {"gpu-1": "remove", "cpu-2": "remove"}
    assert os.listdir(targets) == ["cpu-1.json"]


def test_a_file_that_a_node_writes_after_slurm_was_asked_is_not_removed(
    sync: Sync, slurm: Slurm, fsx: Path, targets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync.run()
    slurm.set("gpu-1", marks="~")
    ask = slurm.nodes

    def boots_meanwhile() -> list[SlurmNode]:
        answer = ask()
        add_exporters(str(fsx), Node("gpu-1", "train"), "", [Exporter("lustre_exporter", 9169)])
        return answer

    monkeypatch.setattr(slurm, "nodes", boots_meanwhile)
    assert sync.run().done == []
    assert (targets / "gpu-1.json").exists()


def test_without_slurm_all_stays_as_it_was(sync: Sync, slurm: Slurm, targets: Path) -> None:
    sync.run()
    before = inodes(targets)
    slurm.is_away = True
    with pytest.raises(SlurmUnavailable, match="does not answer"):
        sync.run()
    slurm.is_away, slurm.known = False, {}
    with pytest.raises(SlurmUnavailable, match="no node at all"):
        sync.run()
    assert inodes(targets) == before


def test_a_cluster_without_a_name_is_not_written_down(sync: Sync, slurm: Slurm, targets: Path) -> None:
    slurm.name = ""
    with pytest.raises(SlurmUnavailable, match=r"cluster's name; set cluster\.name"):
        sync.run()
    assert os.listdir(targets) == []


def test_an_answer_without_most_nodes_takes_three_passes(sync: Sync, slurm: Slurm, config: Config) -> None:
    sync.run()
    all_nodes = slurm.known
    few = {"gpu-1": all_nodes["gpu-1"]}
    slurm.known = few
    for _ in range(2):
        # Each pass in a process of its own, as a timer starts them.
        assert Sync(slurm, config).run().plan.doubted == ["cpu-1", "cpu-2"]
    slurm.known = all_nodes
    assert sync.run().plan.doubted == []
    slurm.known = few
    assert [len(sync.run().done) for _ in range(3)] == [0, 0, 2]


def test_a_dry_run_says_what_it_would_do_and_writes_nothing(sync: Sync, config: Config, targets: Path) -> None:
    plan = sync.run(dry_run=True).plan
    assert [change.node for change in plan.changes] == ["gpu-1", "cpu-1", "cpu-2"]
    assert os.listdir(targets) == []
    assert not os.path.exists(config["monitoring.state_dir"])


@pytest.mark.parametrize("memory", [b"", b"[]", b'{"version": 1}', b"\xff", b'{"doubts": "x"}'])
def test_a_broken_memory_costs_a_look_and_nothing_else(sync: Sync, config: Config, memory: bytes) -> None:
    sync.run()
    (Path(config["monitoring.state_dir"]) / "targets.json").write_bytes(memory)
    assert sync.run().done == []


def test_the_memory_of_another_folder_does_not_count(sync: Sync, slurm: Slurm, config: Config, tmp_path: Path) -> None:
    sync.run()
    (tmp_path / "fsx2/monitoring/targets").mkdir(parents=True)
    other = Config({**config.as_dict(), "fsx.root": str(tmp_path / "fsx2")})
    assert len(Sync(slurm, other).run().done) == 3


def test_what_a_killed_writer_left_is_removed_and_what_one_writes_now_is_not(sync: Sync, targets: Path) -> None:
    old, new, other = targets / ".cpu-1.json.cpu-1.77", targets / ".cpu-2.json.cpu-2.78", targets / ".hidden"
    for file in (old, new, other):
        file.write_text("[")
    long_ago = time.time() - 3600
    for file in (old, other):
        os.utime(file, (long_ago, long_ago))
    assert sync.run().leftovers == 0  # it may be another node's, whose clock is behind
    assert sync.run().leftovers == 1
    assert {file.name for file in targets.iterdir() if file.name.startswith(".")} == {new.name, ".hidden"}


def test_a_clock_that_jumps_changes_nothing(sync: Sync, targets: Path) -> None:
    sync.run()
    for seconds in (-1e9, 1e9):
        for file in targets.iterdir():
            os.utime(file, (time.time() + seconds,) * 2)
        assert sync.run().done == []


def test_a_pass_waits_for_another_and_gives_up(sync: Sync, config: Config, targets: Path) -> None:
    sync.run()
    with open(f"{config['monitoring.state_dir']}/sync.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(LockTimeout, match=r"another sync has held .* for 0\.1 s"):
            sync.run(lock_timeout_s=0.1)
    assert sync.run(lock_timeout_s=0.1).done == []


def test_a_file_that_cannot_be_written_is_named_and_keeps_no_other_back(sync: Sync, targets: Path) -> None:
    (targets / "cpu-1.json").mkdir()
    outcome = sync.run()
    assert [(change.node, bool(why)) for change, why in outcome.failed] == [("cpu-1", True)]
    assert acts(outcome) == {"gpu-1": "add", "cpu-2": "add"}


def test_a_bare_mount_point_stays_empty(slurm: Slurm, config: Config, tmp_path: Path) -> None:
    bare = Config({**config.as_dict(), "fsx.root": str(tmp_path / "bare")})
    (tmp_path / "bare").mkdir()
    with pytest.raises(SharedFsUnavailable):
        Sync(slurm, bare).run()
    assert os.listdir(tmp_path / "bare") == []


def test_a_pass_that_is_killed_leaves_its_lock_free_and_files_whole(sync: Sync, config: Config, targets: Path) -> None:
    values = {key: config[key] for key in ("fsx.root", "monitoring.state_dir")}
    code = f"""
import os, signal
from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.monitoring.on_head.sync import Sync
from slurm_fsx_tools.slurm_state import SlurmNode
class Slurm:
    nodes = staticmethod(lambda: [SlurmNode("cpu-1", "idle"), SlurmNode("cpu-2", "idle")])
    cluster_name = staticmethod(lambda: "train")
rename, renamed = os.rename, []
def die_at_the_second(*names, **how):
    if renamed:
        os.kill(os.getpid(), signal.SIGKILL)
    renamed.append(rename(*names, **how))
os.rename = die_at_the_second
Sync(Slurm(), Config({values!r})).run()
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert [file.name for file in targets.glob("[!.]*")] == ["cpu-1.json"]
    assert set(acts(sync.run(lock_timeout_s=1))) == {"gpu-1", "cpu-1", "cpu-2"}
