"""The documented script: its three words become options, and all else goes on as it is."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param([], [], id="none"),
        pytest.param(
            ["v2.28.7-1", "v1.17.2-aws", "/fsx"],
            ["--nccl=v2.28.7-1", "--ofi=v1.17.2-aws", "--prefix=/fsx"],
            id="documented",
        ),
        pytest.param(["v2.28.7-1", "--dry-run"], ["--nccl=v2.28.7-1", "--dry-run"], id="one-and-an-option"),
        pytest.param(["--from", "wheel"], ["--from", "wheel"], id="options-alone"),
        pytest.param(["$(id); *", "a b"], ["--nccl=$(id); *", "--ofi=a b"], id="metacharacters"),
    ],
)
@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_scripts_words_become_options(
    checkout: Path, tmp_path: Path, shell: str, words: list[str], expected: list[str]
) -> None:
    script = tmp_path / "install-nccl-shared.sh"
    text = (checkout / "scripts/install-nccl-shared.sh").read_text()
    script.write_text(text.replace("home=/opt/slurm-fsx", f"home={tmp_path}"))
    program = tmp_path / "bin/slurm-fsx"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    done = subprocess.run([shell, script, *words], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["nccl", "install", *expected]


def test_the_script_says_where_the_software_is_missing(checkout: Path, tmp_path: Path) -> None:
    script = tmp_path / "install-nccl-shared.sh"
    text = (checkout / "scripts/install-nccl-shared.sh").read_text()
    script.write_text(text.replace("home=/opt/slurm-fsx", f"home={tmp_path}"))
    done = subprocess.run(["sh", script], capture_output=True, text=True)
    assert done.returncode == 127
    assert "install slurm-fsx-tools there" in done.stderr
