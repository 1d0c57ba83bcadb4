"""Checks of Pyxis and enroot; enroot is a script here, which says or does what a broken one would."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurm_fsx_tools.provision.doctor.containers_runtime import fixed_part, parse_enroot_conf
from slurm_fsx_tools.provision.doctor.findings import NOTE, PROBLEM
from slurm_fsx_tools.provision.mounts import parse_mounts

from .conftest import Machine

PYXIS = "/x/spank_pyxis.so"


class Node:
    """A machine with Pyxis, and an enroot of the test's own."""

    def __init__(self, machine: Machine, bin_folder: Path) -> None:
        self.machine = machine
        self.program = bin_folder / "enroot"
        self.set_pyxis("0.24.0", "importer=/x")

    def set_pyxis(self, version: str, *options: str) -> None:
        line = ["/etc/slurm/plugstack.conf", 2, ["required", PYXIS, *options]]
        self.machine.facts["plugstack"] = ["", [], [line], []]
        self.machine.facts["plugins"] = {PYXIS: {"path": PYXIS, "pyxis": version}}

    def set_enroot(self, script: str) -> None:
        self.program.write_text(f"#!/bin/sh\n{script}\n")
        self.program.chmod(0o755)

    def configure(self, **paths: Path | str) -> None:
        folder = self.machine.etc / "enroot"
        folder.mkdir(exist_ok=True)
        lines = [f"ENROOT_{name.upper()}_PATH   {path}\n" for name, path in paths.items()]
        (folder / "enroot.conf").write_text("#ENROOT_DATA_PATH /x\n" + "".join(lines))


@pytest.fixture
def node(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return Node(machine, folder)


def test_an_enroot_that_answers_is_well(node: Node) -> None:
    node.set_enroot("echo 4.1.2")
    assert not node.machine.find("enroot")


def test_an_old_enroot_is_a_note(node: Node) -> None:
    node.set_enroot("echo 3.4.1")
    (finding,) = node.machine.find("enroot")
    assert finding.severity == NOTE


def test_an_enroot_that_fails_is_told_with_its_words(node: Node) -> None:
    node.set_enroot("echo '[ERROR] Command not found: jq' >&2; exit 1")
    (finding,) = node.machine.find("enroot")
    assert (finding.severity, finding.finding) == (PROBLEM, "enroot does not run: [ERROR] Command not found: jq.")


def test_an_enroot_that_hangs_is_a_finding(node: Node) -> None:
    node.set_enroot("exec sleep 600")
    (finding,) = node.machine.find("enroot")
    assert finding.finding == "enroot gave no answer within 2.5 s."


def test_pyxis_without_enroot_is_a_problem(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.machine.facts["enroot"] = {"program": "", "version": "", "reason": ""}
    assert node.machine.texts("enroot") == ["Pyxis is loaded, and enroot is not installed."]


def test_without_pyxis_nobody_needs_enroot(node: Node) -> None:
    node.machine.facts["plugstack"] = ["", [], [], []]
    node.machine.facts["enroot"] = {"program": "", "version": "", "reason": ""}
    assert not node.machine.find("enroot", "enroot-paths")


def local(machine: Machine, more: str = "") -> None:
    machine.facts["mounts"] = [list(mount) for mount in parse_mounts(f"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n{more}")]


def test_folders_on_local_disk_are_well(node: Node, tmp_path: Path) -> None:
    local(node.machine)
    (tmp_path / "runtime").mkdir()
    (tmp_path / "runtime").chmod(0o1777)
    node.configure(runtime=f"{tmp_path}/runtime/user-$(id -u)", cache="${HOME}/.cache")
    assert not node.machine.find("enroot-paths")


@pytest.mark.parametrize("name", ["runtime", "data"])
def test_runtime_or_data_on_the_shared_file_system_is_a_problem(node: Node, name: str) -> None:
    local(node.machine, "2 1 0:60 / /shared rw - lustre 10.0.0.7@tcp:/abc rw,flock")
    node.configure(**{name: "/shared/enroot/$(id -u)"})
    (finding,) = node.machine.find("enroot-paths")
    assert "on the shared file system (lustre)" in finding.finding


def test_a_cache_may_be_shared(node: Node) -> None:
    local(node.machine, "2 1 0:60 / /shared rw - lustre 10.0.0.7@tcp:/abc rw,flock")
    node.configure(cache="/shared/enroot-cache/$(id -u)")
    assert not node.machine.find("enroot-paths")


def test_below_fsx_is_shared_whatever_is_mounted_there(node: Node) -> None:
    local(node.machine)
    node.configure(data=f"{node.machine.fsx}/enroot")
    (finding,) = node.machine.find("enroot-paths")
    assert finding.severity == PROBLEM


def test_a_folder_that_is_missing_or_closed_is_a_problem(node: Node, tmp_path: Path) -> None:
    local(node.machine)
    node.configure(runtime=f"{tmp_path}/run time/$UID")
    (finding,) = node.machine.find("enroot-paths")
    assert (finding.command, finding.is_safe) == (f"install -d -m 1777 '{tmp_path}/run time'", True)
    (tmp_path / "run time").mkdir(mode=0o755)
    (finding,) = node.machine.find("enroot-paths")
    assert "is closed to users (mode 0755)" in finding.finding


def test_little_room_for_containers_is_told_once_for_a_disk(node: Node) -> None:
    local(node.machine)
    node.configure(data="/a/$UID", cache="/b/$UID")
    room = {"mode": 0o1777, "free_bytes": 5 << 30}
    node.machine.facts["enroot-folders"] = {"DATA": {"folder": "/a", **room}, "CACHE": {"folder": "/b", **room}}
    (finding,) = node.machine.find("enroot-paths")
    assert "has 5.0 GiB left" in finding.finding


@pytest.mark.parametrize(
    ("version", "options", "severities"),
    [
        pytest.param("0.24.0", ["importer=/x"], [], id="new"),
        pytest.param("0.20.0", [], [], id="old"),
        pytest.param("0.20.0", ["importer=/x"], [PROBLEM], id="word-unknown-to-old"),
        pytest.param("0.21.0", [], [NOTE], id="new-without-importer"),
    ],
)
def test_pyxis_must_know_the_words_on_its_line(
    node: Node, version: str, options: list[str], severities: list[str]
) -> None:
    node.set_pyxis(version, *options)
    assert [finding.severity for finding in node.machine.find("pyxis")] == severities


def test_enroots_configuration_is_read_as_enroot_does() -> None:
    text = "#ENROOT_DATA_PATH /no\n ENROOT_DATA_PATH \t /a/$(id -u) \nENROOT_TEMP_PATH '/b c'\nother x\n"
    assert parse_enroot_conf(text) == {"ENROOT_DATA_PATH": "/a/$(id -u)", "ENROOT_TEMP_PATH": "/b c"}
    paths = ("/a/b/$(id -u)", "/a/user-$UID", "/a/b/", "/a/`id`/c", "/$UID", "${HOME}/x")
    assert [fixed_part(path) for path in paths] == ["/a/b", "/a", "/a/b", "/a", "/", ""]
