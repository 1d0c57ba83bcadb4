"""Checks of what root reads, on real files with real modes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from slurm_fsx_tools.provision.doctor.findings import PROBLEM, WARNING, Finding
from slurm_fsx_tools.provision.mounts import parse_mounts

from .conftest import Machine

STAFF = 50
"""Source: base-passwd's list of Debian's groups."""


@pytest.fixture
def trusted(machine: Machine, tmp_path: Path, needs_root: None) -> Machine:
    plugins = tmp_path / "plugins.d"
    plugins.mkdir()
    machine.values["prolog.plugins_dir"] = str(plugins)
    machine.values["containers.state_dir"] = str(tmp_path / "state")
    machine.facts["slurm"] = {"settings": {}, "conf": str(tmp_path / "slurm.conf"), "reason": "", "is_here": True}
    machine.facts["plugstack"] = ["", [str(tmp_path / "plugstack.conf")], [], []]
    machine.facts["plugins"] = {}
    machine.facts["scripts"] = {}
    for name in ("slurm.conf", "plugstack.conf", "plugins.d/site.py", "run/config.json"):
        (tmp_path / name).write_text("")
    return machine


def found(machine: Machine, folder: Path) -> list[tuple[str, str]]:
    """Give what is wrong below a folder: the machine that runs the tests is not their subject."""
    return [
        (finding.finding.removeprefix(f"{folder}/"), finding.command.replace(f"{folder}/", ""))
        for finding in machine.find("trusted-files")
        if str(folder) in finding.finding
    ]


def test_files_of_root_alone_are_well(trusted: Machine, tmp_path: Path) -> None:
    assert not found(trusted, tmp_path)


@pytest.mark.parametrize("name", ["slurm.conf", "plugstack.conf", "plugins.d/site.py", "plugins.d", "run/config.json"])
def test_what_others_can_write_to_is_a_problem(trusted: Machine, tmp_path: Path, name: str) -> None:
    mode = 0o777 if (tmp_path / name).is_dir() else 0o666
    (tmp_path / name).chmod(mode)
    expected = f"{name} can be written by others than root (mode {mode:04o})."
    assert found(trusted, tmp_path) == [(expected, f"chmod go-w {name}")]
    (finding,) = [each for each in trusted.find("trusted-files") if str(tmp_path) in each.finding]
    assert finding.severity == PROBLEM
    subprocess.run(["sh", "-c", finding.command], check=True)
    assert not found(trusted, tmp_path)


def test_a_folder_of_a_systems_group_that_nobody_is_in_is_roots(trusted: Machine, tmp_path: Path) -> None:
    folder = tmp_path / "plugins.d"
    os.chown(folder, 0, STAFF)  # as Debian has /usr/local
    folder.chmod(0o2775)
    assert not found(trusted, tmp_path)
    os.chown(folder, 0, 2001)
    folder.chmod(0o2775)
    assert found(trusted, tmp_path)
    os.chown(folder, 0, STAFF)
    folder.chmod(0o2777)
    assert found(trusted, tmp_path) == [
        ("plugins.d can be written by others than root (mode 2777).", "chmod go-w plugins.d")
    ]


def test_what_belongs_to_a_user_is_a_problem(trusted: Machine, tmp_path: Path) -> None:
    os.chown(tmp_path / "slurm.conf", 2001, 2001)
    expected = "slurm.conf belongs to user 2001, not to root."
    assert found(trusted, tmp_path) == [(expected, "chown root slurm.conf")]


def test_slurms_own_account_may_keep_slurms_files_and_no_others(trusted: Machine, tmp_path: Path) -> None:
    for name in ("slurm.conf", "plugins.d/site.py"):
        os.chown(tmp_path / name, 401, 401)
    trusted.facts["slurm"]["settings"]["slurmuser"] = "slurm(401)"
    assert [text for text, _ in found(trusted, tmp_path)] == ["plugins.d/site.py belongs to user 401, not to root."]


def test_a_file_in_a_folder_of_others_is_not_changed_by_fix(trusted: Machine, tmp_path: Path) -> None:
    (tmp_path / "plugins.d").chmod(0o777)
    (tmp_path / "plugins.d/site.py").chmod(0o666)
    by_path = {each.command: each.is_safe for each in trusted.find("trusted-files") if str(tmp_path) in each.finding}
    assert by_path == {
        f"chmod go-w {tmp_path}/plugins.d": True,
        f"chmod go-w {tmp_path}/plugins.d/site.py": False,
    }


def test_a_site_plugin_that_does_not_load_is_told(machine: Machine, tmp_path: Path) -> None:
    plugins = tmp_path / "plugins.d"
    plugins.mkdir()
    config = tmp_path / "config.yaml"
    config.write_text(f"prolog: {{plugins_dir: {plugins}}}\nruntime_dir: {machine.run}\n")
    assert not complaints(machine, config)
    (plugins / "site.py").write_text("{}['policy']\n")
    (finding,) = complaints(machine, config)
    assert finding.finding == f"Loading plugin site ({plugins}/site.py): KeyError: 'policy'."
    assert finding.command == "slurm-fsx plugins list"


def complaints(machine: Machine, config: Path) -> list[Finding]:
    from slurm_fsx_tools.config.model import Config
    from slurm_fsx_tools.provision.doctor.checks import PROBES, choose
    from slurm_fsx_tools.provision.doctor.engine import diagnose

    context = machine.context._replace(config=Config(machine.values, path=str(config)))
    findings, _ = diagnose(choose(["config"]), PROBES, context)
    return [finding for finding in findings if finding.severity == PROBLEM]


def test_a_mistake_in_the_configuration_is_told_with_file_and_line(machine: Machine, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("fsx:\n  timeuot: 2\n")
    (finding,) = complaints(machine, config)
    assert f"{config}:2" in finding.finding
    assert "timeuot" in finding.finding
    assert finding.command == "slurm-fsx config check"


def test_software_on_local_disk_is_well(machine: Machine) -> None:
    program = machine.home / "bin/slurm-fsx"
    assert "is not there" in machine.texts("installation")[0]
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    machine.facts["mounts"] = [list(mount) for mount in parse_mounts("1 0 8:1 / / rw - ext4 /dev/sda1 rw")]
    assert not machine.find("installation")
    machine.facts["mounts"] = [list(mount) for mount in parse_mounts("1 0 0:9 / / rw - nfs4 server:/ rw")]
    (finding,) = machine.find("installation")
    assert (finding.severity, finding.finding) == (WARNING, f"This software is installed in {machine.home}, on nfs4.")
