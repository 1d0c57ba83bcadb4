"""What `slurm-fsx tidy` takes and what it leaves; with a real Slurm, tests/cluster does the same."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

ID = "2.28.7-1_ofi-1.17.2-aws_cuda-13.0_x86_64"
Tidy = Callable[[], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def tidy(tmp_path: Path, needs_root: None) -> Tidy:
    """Runs it beside a Slurm whose only job is 7."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "config.yaml").write_text(yaml.dump({"fsx": {"root": str(tmp_path / "fsx")}}))
    say(tmp_path, "echo 7 2001 RUNNING")
    environment = {"PATH": str(tmp_path / "bin"), "SLURM_FSX_CONFIG": str(tmp_path / "config.yaml")}
    command = [sys.executable, "-m", "slurm_fsx_tools", "tidy"]
    return lambda: subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def say(folder: Path, squeue: str) -> None:
    (folder / "bin/squeue").write_text(f"#!/bin/sh\n{squeue}\n")
    (folder / "bin/squeue").chmod(0o755)


def mark(folder: Path, *jobs: str) -> Path:
    folder.mkdir(parents=True)
    for job in jobs:
        (folder / job).touch()
    return folder


def test_marks_of_ended_jobs_go_of_images_and_of_nccl(tidy: Tidy, tmp_path: Path) -> None:
    (tmp_path / "fsx/containers").mkdir(parents=True)
    (tmp_path / "fsx/containers/a.sqsh").touch()
    image = mark(tmp_path / "fsx/containers/.slurm-fsx/uses/a.sqsh", "6", "7")
    (tmp_path / "fsx/nccl/versions" / ID).mkdir(parents=True)
    version = mark(tmp_path / "fsx/nccl/.uses" / ID, "7", "8", "west.8")
    done = tidy()
    assert (done.returncode, done.stderr) == (0, "slurm-fsx: 2 marks of jobs that have ended removed\n")
    assert os.listdir(image) == ["7"]
    assert sorted(os.listdir(version)) == ["7", "west.8"]


def test_without_slurm_all_stays(tidy: Tidy, tmp_path: Path) -> None:
    image = mark(tmp_path / "fsx/containers/.slurm-fsx/uses/a.sqsh", "6")
    say(tmp_path, "echo slurm_load_jobs error: Unable to contact slurm controller >&2; exit 1")
    done = tidy()
    assert done.returncode == 1
    assert "nobody knows which images and versions of NCCL are in use" in done.stderr
    assert os.listdir(image) == ["6"]


def test_on_a_file_system_without_any_of_it_nothing_is_made(tidy: Tidy, tmp_path: Path) -> None:
    (tmp_path / "fsx").mkdir()
    done = tidy()
    assert (done.returncode, done.stderr) == (0, "slurm-fsx: 0 marks of jobs that have ended removed\n")
    assert os.listdir(tmp_path / "fsx") == []


def test_what_a_killed_removal_left_goes(tidy: Tidy, tmp_path: Path) -> None:
    staging = tmp_path / "fsx/nccl/.staging"
    (staging / f".removed-{ID}/lib").mkdir(parents=True)
    (staging / f".removed-{ID}/lib/libnccl.so.2").touch()
    (staging / ID).mkdir()  # an install that is under way
    assert tidy().returncode == 0
    assert not (staging / f".removed-{ID}").exists()
    assert (staging / ID).is_dir()
