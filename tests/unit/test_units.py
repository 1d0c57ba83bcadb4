"""The units for systemd: it takes them as they are, and they run a command that is there."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from slurm_fsx_tools.cli.main import cli

HOME = "/opt/slurm-fsx"


@pytest.fixture
def units(checkout: Path) -> dict[str, configparser.ConfigParser]:
    found = {}
    for path in (checkout / "share/systemd").iterdir():
        parser = configparser.ConfigParser(interpolation=None)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read(path)
        found[path.name] = parser
    return found


@pytest.mark.parametrize(("unit", "words"), [("cleanup", ["containers", "cleanup"]), ("tidy", ["tidy"])])
def test_what_cleans_up_runs_a_command_of_ours_and_gives_way_to_jobs(
    units: dict[str, configparser.ConfigParser], unit: str, words: list[str]
) -> None:
    service = units[f"slurm-fsx-{unit}.service"]["Service"]
    program, *arguments = service["ExecStart"].split()
    assert (program, arguments) == (f"{HOME}/bin/slurm-fsx", words)
    command: click.Command = cli
    for word in words:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found is not None
        command = found
    assert (service["Type"], service["Nice"]) == ("oneshot", "19")


@pytest.mark.parametrize("unit", ["cleanup", "tidy"])
def test_it_runs_once_a_day_and_not_on_all_machines_at_once(
    units: dict[str, configparser.ConfigParser], unit: str
) -> None:
    timer = units[f"slurm-fsx-{unit}.timer"]["Timer"]
    assert timer["OnCalendar"] == "daily"
    assert int(timer["RandomizedDelaySec"].rstrip("h")) >= 1


def test_systemd_takes_them(checkout: Path, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("needs systemd-analyze")
    program = tmp_path / "bin/slurm-fsx"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for path in (checkout / "share/systemd").iterdir():
        (tmp_path / path.name).write_text(path.read_text().replace(HOME, str(tmp_path)))
    done = subprocess.run(
        [analyze, "verify", "--man=no", *map(str, tmp_path.glob("slurm-fsx-*.*"))],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "slurm-fsx" in line]
    assert (done.returncode, ours) == (0, []), done.stderr


def test_an_installation_elsewhere_has_its_own_place_in_them(checkout: Path, tmp_path: Path) -> None:
    if not shutil.which("make") or not shutil.which("cc"):
        pytest.skip("needs a C compiler and make")
    # The part of `make install` that needs no network.
    (tmp_path / "bin").mkdir()
    (tmp_path / "lib/python3.9/site-packages/slurm_fsx_tools").mkdir(parents=True)
    for folder in ("bin", "share", "spank", "prolog.d", "epilog.d", "task_prolog.d", "scripts", "libexec"):
        shutil.copytree(checkout / folder, tmp_path / "source" / folder)
    makefile = tmp_path / "source/Makefile"
    makefile.write_text((checkout / "Makefile").read_text() + "\nnode-side:\n\t$(call install_node_side,$(PREFIX))\n")
    done = subprocess.run(
        ["make", "-C", makefile.parent, "node-side", f"PREFIX={tmp_path}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    installed = tmp_path / "share/slurm-fsx/systemd"
    assert sorted(os.listdir(installed)) == sorted(os.listdir(checkout / "share/systemd"))
    assert (tmp_path / "bin/slurm-fsx").read_text().startswith(f"#!{tmp_path}/bin/python3 -I\n")
    text = (installed / "slurm-fsx-cleanup.service").read_text()
    assert f"ExecStart={tmp_path}/bin/slurm-fsx containers cleanup\n" in text
    assert HOME not in text
