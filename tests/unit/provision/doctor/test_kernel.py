"""Checks of the kernel, tried for real: faults are made in namespaces of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_fsx_tools.provision.doctor.findings import PROBLEM, UNKNOWN, WARNING

from .conftest import Machine

FORBIDDEN = """\
import sys
from pathlib import Path
from tests.unit.provision.doctor.conftest import Machine
Path("/proc/sys/user/max_user_namespaces").write_text("0")
finding = Machine(Path(sys.argv[1]) / "inner").find("user-namespaces")[0]
print(finding.finding, finding.command, sep="\\n")
"""


def has_overlay() -> bool:
    return "\toverlay\n" in Path("/proc/filesystems").read_text()


def test_overlay_and_user_namespaces_that_work_are_well_and_leave_nothing(machine: Machine, needs_root: None) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    if not has_overlay():
        pytest.skip("this kernel has no overlay")
    assert not machine.find("overlay", "user-namespaces")
    assert Path("/proc/self/mountinfo").read_text() == before


def test_a_kernel_without_overlay_is_a_warning(machine: Machine) -> None:
    machine.facts["overlay"] = os.strerror(19)
    (finding,) = machine.find("overlay")
    assert (finding.severity, finding.command) == (WARNING, "modprobe overlay")
    machine.values["containers.prepare"] = "unpack"
    assert not machine.find("overlay")


def test_forbidden_user_namespaces_are_a_problem_with_the_setting_that_forbids_them(
    machine: Machine, tmp_path: Path, needs_root: None
) -> None:
    # In a user namespace, the limit is that namespace's own.
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", sys.executable, "-c", FORBIDDEN, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[4],
    )
    assert "user.max_user_namespaces forbids it" in done.stdout, done.stderr
    assert "sysctl -w user.max_user_namespaces=15000" in done.stdout


def test_namespaces_that_fail_without_a_known_setting_are_a_problem_too(machine: Machine) -> None:
    machine.facts["user-namespaces"] = {"reason": "Operation not permitted", "settings": []}
    (finding,) = machine.find("user-namespaces")
    assert finding.severity == PROBLEM


def test_a_missing_fuse_device_is_a_warning(machine: Machine) -> None:
    (finding,) = [each for each in machine.find("fuse") if "dev" in each.finding]
    assert (finding.severity, finding.command) == (WARNING, "modprobe fuse")


def test_a_fuse_device_that_is_closed_to_users_is_a_warning(machine: Machine) -> None:
    machine.facts["fuse"] = {"path": "/dev/fuse", "mode": 0o600, "programs": ["squashfuse", "fusermount3"]}
    (finding,) = machine.find("fuse")
    assert (finding.finding, finding.command) == ("/dev/fuse is closed to users (mode 0600).", "chmod 666 /dev/fuse")


def test_a_usable_fuse_is_well(machine: Machine) -> None:
    (machine.dev / "fuse").touch()
    (machine.dev / "fuse").chmod(0o666)
    assert not [finding for finding in machine.find("fuse") if "squashfuse" not in finding.finding]
    machine.facts["fuse"] = {"path": "/dev/fuse", "mode": 0o666, "programs": ["squashfuse"]}
    assert not machine.find("fuse")


def test_squashfuse_must_be_installed(machine: Machine) -> None:
    seen = {"path": "/dev/fuse", "mode": 0o666, "programs": ["fusermount3"], "install": ["dnf", "install"]}
    machine.facts["fuse"] = seen
    (finding,) = machine.find("fuse")
    assert "squashfuse is not installed" in finding.finding
    assert finding.command == "dnf install squashfuse fuse3"


def test_a_look_that_takes_root_says_so(machine: Machine, needs_root: None) -> None:
    def as_nobody() -> list[str]:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        return [f"{each.severity} {each.finding}" for each in machine.find("overlay")]

    from slurm_fsx_tools.shared_fs import call_apart

    found = call_apart(as_nobody, 60)
    assert found == [] if has_overlay() else found[0].startswith(f"{UNKNOWN} Not checked")
