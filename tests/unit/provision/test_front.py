"""The documented script hands each option to the commands that take it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("options", "commands"),
    [
        pytest.param([], ["setup head", "setup hooks"], id="none"),
        pytest.param(["--dry-run"], ["setup head --dry-run", "setup hooks --dry-run"], id="for both"),
        pytest.param(["--no-images"], ["setup head --no-images", "setup hooks"], id="for the head node"),
        pytest.param(
            ["--edit-slurm-conf", "--force", "--runtime", "bwrap"],
            ["setup head --force --runtime bwrap", "setup hooks --edit-slurm-conf --force"],
            id="for the hooks",
        ),
        pytest.param(["--force", "--help"], ["setup head --help"], id="help: nothing is done"),
    ],
)
def test_the_script_hands_options_to_the_commands_that_take_them(
    options: list[str], commands: list[str], tmp_path: Path, checkout: Path
) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/slurm-fsx"
    program.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/said\n')
    program.chmod(0o755)
    script = tmp_path / "setup-headnode.sh"
    # As make install does it.
    text = (checkout / "scripts/setup-headnode.sh").read_text()
    script.write_text(text.replace("home=/opt/slurm-fsx", f"home={tmp_path}"))
    subprocess.run(["sh", script, *options], check=True)
    assert (tmp_path / "said").read_text().splitlines() == commands
