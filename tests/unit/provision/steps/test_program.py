"""Packages, services and commands, by the programs of this machine."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from slurm_fsx_tools.errors import StepFailed
from slurm_fsx_tools.provision.steps import Command, File, Packages, Record, Service

from .conftest import Machine, said

UNIT = "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"
PLACE = "/etc/systemd/system/ours.service"


@pytest.mark.skipif(not shutil.which("systemctl"), reason="needs systemctl")
def test_a_service_is_enabled_and_disabled_in_another_root(machine: Machine) -> None:
    machine.path("/etc/systemd/system").mkdir(parents=True)
    before = machine.tree()
    steps = (File(PLACE, UNIT), Service("ours.service"))
    assert said(machine.apply(*steps)) == [("changed", f"file {PLACE}"), ("changed", "service ours.service")]
    assert machine.path("/etc/systemd/system/multi-user.target.wants/ours.service").is_symlink()
    assert said(machine.apply(*steps)) == []
    machine.undo()
    assert machine.tree() == before


@pytest.mark.skipif(not shutil.which("systemctl"), reason="needs systemctl")
def test_a_service_that_was_enabled_before_stays_so(machine: Machine) -> None:
    wants = machine.path("/etc/systemd/system/multi-user.target.wants")
    wants.mkdir(parents=True)
    machine.write(PLACE, UNIT)
    (wants / "ours.service").symlink_to(PLACE)
    assert said(machine.apply(Service("ours.service"))) == []
    machine.undo()
    assert (wants / "ours.service").is_symlink()


@pytest.mark.skipif(not shutil.which("systemctl"), reason="needs systemctl")
def test_a_unit_that_is_missing_is_a_failure_that_says_so(machine: Machine) -> None:
    (event,) = machine.apply(Service("missing.service"))
    assert event.outcome == "failed"
    assert "missing.service" in event.text


@pytest.mark.skipif(not shutil.which("dpkg-query"), reason="needs dpkg")
def test_packages_that_are_installed_need_nothing_and_others_are_named() -> None:
    record = Record("test")
    assert Packages(("dpkg", "base-files")).check(record) is None
    change = Packages(("dpkg", "no-such-package-of-ours")).check(record)
    assert change is not None
    assert change.summary == "install no-such-package-of-ours"


@pytest.mark.skipif(not shutil.which("dpkg-query"), reason="needs dpkg")
def test_packages_of_another_root_are_looked_up_there_and_not_installed_from_here(machine: Machine) -> None:
    folder = machine.path("/var/lib/dpkg")
    folder.mkdir(parents=True)
    machine.write(
        "/var/lib/dpkg/status",
        "Package: theirs\nStatus: install ok installed\nVersion: 1\nMaintainer: a\nDescription: b\n\n",
    )
    assert said(machine.apply(Packages(("theirs",)))) == []
    assert said(machine.apply(Packages(("theirs", "others")))) == [("skipped", "packages")]


def test_a_command_runs_once_and_its_opposite_at_undo(tmp_path: Path, needs_root: None) -> None:
    file = tmp_path / "made"
    record = Recorded("test", str(tmp_path))
    step = Command("make it", ("touch", str(file)), lambda _record: file.exists(), ("rm", str(file)))
    assert step.check(record) is not None
    step.apply(record)
    assert file.exists()
    assert step.check(record) is None
    assert step.undo(record) == ""
    assert not file.exists()


class Recorded(Record):
    """A record of this machine that is kept in memory."""

    def __init__(self, what: str, folder: str) -> None:
        super().__init__(what)

    def _save(self) -> None:
        pass


def test_a_command_that_fails_is_said_with_its_words(machine: Machine) -> None:
    step = Command("fail", ("sh", "-c", "echo why; exit 3"), lambda _record: False)
    with Record.open("test", str(machine.root)) as record, pytest.raises(StepFailed, match="ended with 3: why"):
        step.apply(record)
    (event,) = machine.undo()
    assert event.outcome == "removed"
