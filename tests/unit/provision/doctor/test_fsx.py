"""Checks of the shared file system. Mounts of Lustre are recorded: there is none here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slurm_fsx_tools.provision.doctor.findings import NOTE, PROBLEM, UNKNOWN, WARNING
from slurm_fsx_tools.provision.mounts import mount_of, parse_mounts

from .conftest import Machine

LUSTRE = "300 1 0:60 / {root} rw,noatime shared:9 - lustre 10.0.0.7@tcp:/abcdefgh {options}"
EMPTY = {"elapsed_s": 0.01, "free_bytes": 900 << 30, "total_bytes": 1200 << 30, "free_inodes": 90, "total_inodes": 100}


def mounted(machine: Machine, line: str = LUSTRE, options: str = "rw,flock,lazystatfs") -> None:
    text = line.format(root=machine.fsx, options=options)
    machine.facts["mounts"] = [list(mount) for mount in parse_mounts(f"20 1 254:0 / / rw - ext4 /dev/vda rw\n{text}")]


def test_a_mounted_fsx_is_well(machine: Machine) -> None:
    mounted(machine)
    assert not machine.find("fsx-mounted", "fsx-answers", "fsx-flock", "fsx-folders")


def test_nothing_mounted_is_a_problem_with_the_command_that_mounts_it(machine: Machine) -> None:
    machine.etc.joinpath("fstab").write_text(f"# /fsx\nfs-1.fsx:/abc {machine.fsx} lustre noatime,flock 0 0\n")
    (finding,) = machine.find("fsx-mounted")
    assert (finding.severity, finding.finding) == (PROBLEM, f"Nothing is mounted at {machine.fsx}.")
    assert finding.command == f"mount {machine.fsx}"


def test_a_root_that_is_a_link_to_the_mount_is_well(machine: Machine) -> None:
    mounted(machine)
    link = machine.fsx.parent / "link"
    link.symlink_to("fsx")
    machine.values["fsx.root"] = str(link)
    assert not machine.find("fsx-mounted")


def test_without_a_line_in_fstab_the_whole_command_is_told(machine: Machine) -> None:
    machine.etc.joinpath("fstab").write_text("# nothing\n")
    (finding,) = machine.find("fsx-mounted")
    assert "no line for it" in finding.finding
    assert "mount -t lustre -o noatime,flock " in finding.why


def test_what_is_missing_because_nothing_is_mounted_is_no_trouble_of_its_own(machine: Machine) -> None:
    (machine.fsx / "logs").rmdir()
    found = machine.find("fsx-mounted", "images", "nccl-installed", "fsx-space")
    assert [finding.severity for finding in found] == [PROBLEM, UNKNOWN, UNKNOWN, UNKNOWN]
    assert {finding.finding for finding in found[1:]} == {f"Not checked: nothing is mounted at {machine.fsx}."}


def test_a_folder_of_a_shared_file_system_is_as_good_as_its_root(machine: Machine) -> None:
    machine.facts["mounts"] = [list(each) for each in parse_mounts(f"2 1 0:9 / {machine.fsx.parent} rw - nfs4 a:/ rw")]
    assert not machine.find("fsx-mounted")


def test_a_read_only_mount_is_a_problem(machine: Machine) -> None:
    mounted(machine, LUSTRE.replace("rw,noatime", "ro,noatime"))
    (finding,) = machine.find("fsx-mounted")
    assert "read-only" in finding.finding


def test_a_local_file_system_is_a_note(machine: Machine) -> None:
    mounted(machine, "300 1 8:1 / {root} rw - ext4 /dev/sda1 rw")
    (finding,) = machine.find("fsx-mounted")
    assert finding.severity == NOTE


@pytest.mark.parametrize(
    ("options", "is_well"),
    [("rw,flock", True), ("rw,localflock", False), ("rw", False)],
    ids=["flock", "localflock", "none"],
)
def test_lustre_needs_the_option_flock(machine: Machine, options: str, is_well: bool) -> None:
    mounted(machine, options=options)
    found = machine.find("fsx-flock")
    assert [finding.severity for finding in found] == ([] if is_well else [WARNING])
    assert is_well or "10.0.0.7@tcp:/abcdefgh" in found[0].command


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        pytest.param({}, [], id="room"),
        pytest.param({"free_bytes": 100 << 30}, [WARNING], id="little"),
        pytest.param({"free_bytes": 1 << 30}, [PROBLEM], id="full"),
        pytest.param({"free_inodes": 1}, [PROBLEM], id="no-inodes"),
        pytest.param({"free_inodes": 0, "total_inodes": 0}, [], id="inodes-without-end"),
    ],
)
def test_little_room_is_told_before_it_is_none(machine: Machine, seen: dict[str, Any], said: list[str]) -> None:
    machine.facts["fsx"] = {**EMPTY, **seen}
    assert [finding.severity for finding in machine.find("fsx-space")] == said


def test_a_full_file_system_is_found(machine: Machine, needs_root: None) -> None:
    # A file system of its own, full, where nobody else sees it.
    code = (
        "import sys; from pathlib import Path; from tests.unit.provision.doctor.conftest import Machine;"
        "m = Machine(Path(sys.argv[1]) / 'inner'); m.fsx = Path(sys.argv[1]) / 'full';"
        "m.values['fsx.root'] = str(m.fsx); print(m.texts('fsx-space'))"
    )
    (machine.fsx / "full").mkdir()
    script = (
        'mount -t tmpfs -o size=1M tmpfs "$1/full"; dd if=/dev/zero of="$1/full/x" bs=64k status=none;'
        'exec "$2" -c "$3" "$1"'
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", str(machine.fsx), sys.executable, code],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[4],
    )
    assert "is full" in done.stdout, done.stderr


def test_a_slow_answer_is_a_warning(machine: Machine) -> None:
    machine.facts["fsx"] = {**EMPTY, "elapsed_s": 1.2}
    (finding,) = machine.find("fsx-answers")
    assert "took 1.2 s" in finding.finding


@pytest.mark.parametrize("name", ["containers", "nccl", "scripts", "config", "monitoring/targets"])
def test_a_folder_that_everybody_can_write_to_is_a_problem_and_can_be_fixed(machine: Machine, name: str) -> None:
    folder = machine.fsx / name
    folder.mkdir(parents=True)
    assert not machine.find("fsx-folders")
    folder.chmod(0o777)
    (finding,) = machine.find("fsx-folders")
    assert (finding.severity, finding.command) == (PROBLEM, f"chmod go-w {folder}")
    assert finding.is_safe == (os.geteuid() == 0)


def test_nothing_is_fixed_where_a_user_could_put_a_link_in_the_way(machine: Machine) -> None:
    (machine.fsx / "nccl").mkdir()
    (machine.fsx / "nccl").chmod(0o777)
    machine.fsx.chmod(0o777)
    assert not any(finding.is_safe for finding in machine.find("fsx-folders"))


def test_nccl_of_somebody_else_is_a_problem(machine: Machine, needs_root: None) -> None:
    (machine.fsx / "nccl").mkdir()
    os.chown(machine.fsx / "nccl", 2001, 2001)
    (finding,) = machine.find("fsx-folders")
    assert "belongs to user 2001" in finding.finding


def test_a_folder_for_all_users_needs_the_sticky_bit(machine: Machine) -> None:
    folder = machine.fsx / "datasets"
    folder.mkdir()
    folder.chmod(0o777)
    (finding,) = machine.find("fsx-folders")
    assert (finding.severity, finding.command) == (WARNING, f"chmod +t {folder}")
    folder.chmod(0o1777)
    assert not machine.find("fsx-folders")


def test_a_top_folder_that_everybody_can_write_to_is_a_problem(machine: Machine) -> None:
    machine.fsx.chmod(0o777)
    (finding,) = machine.find("fsx-folders")
    assert finding.command == f"chmod 1777 {machine.fsx}"


def test_a_path_is_on_the_deepest_mount_that_was_mounted_last() -> None:
    known = parse_mounts(
        "1 0 8:1 / / rw - ext4 a rw\n2 1 8:2 / /fsx rw - ext4 b rw\n3 1 0:9 / /fsx rw - lustre c rw\n"
        "4 1 8:3 / /fsx\\040too rw - ext4 d rw"
    )
    found = {path: mount_of(path, known) for path in ("/fsx/a", "/fsx", "/fsx too/x", "/fsxy")}
    assert {path: mount.source for path, mount in found.items() if mount} == {
        "/fsx/a": "c",
        "/fsx": "c",
        "/fsx too/x": "d",
        "/fsxy": "a",
    }
