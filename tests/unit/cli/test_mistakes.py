"""What is said to somebody who mistypes a command, or names what is not there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(checkout: Path) -> Run:
    """Runs the command as a process of its own; gives its exit code and what it complains of."""

    def run(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "slurm_fsx_tools", *arguments]
        done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    return run


@pytest.mark.parametrize(
    ("mistyped", "meant"),
    [
        pytest.param(["containr"], "did you mean containers?", id="group"),
        pytest.param(["nccl", "instal"], "did you mean install?", id="command"),
        pytest.param(["config", "chek"], "did you mean check?", id="small-group"),
        pytest.param(["setup", "zzz"], "No such command 'zzz'", id="like-none"),
    ],
)
def test_a_mistyped_command_is_answered_by_the_nearest(run: Run, mistyped: list[str], meant: str) -> None:
    code, said = run(*mistyped)
    assert code == 2
    assert meant in said


@pytest.mark.parametrize("written", ["abc", "4711_3", "0", "99999999999", "\u0661"])
def test_what_is_no_job_id_is_told_where_one_is_found(run: Run, written: str) -> None:
    code, said = run("job", written)
    assert code == 2
    assert f"'{written}' is no number; of an array's task, squeue --format='%i %A' shows it" in said


@pytest.mark.parametrize(
    ("written", "said"),
    [
        pytest.param("n1", "'n1' is no number; for certain nodes write --nodelist n1", id="node"),
        pytest.param("n[1-2]", "'n[1-2]' is no number; for certain nodes write --nodelist 'n[1-2]'", id="set"),
        pytest.param("0", "0 is not in the range x>=1", id="none"),
    ],
)
def test_nodes_where_their_number_is_wanted_are_told_where_they_go(run: Run, written: str, said: str) -> None:
    code, complaint = run("nccl", "test", "--nodes", written)
    assert code == 2
    assert said in complaint


def test_a_configuration_that_is_named_must_be_there(run: Run, tmp_path: Path) -> None:
    code, said = run("config", "check", str(tmp_path / "none.yaml"))
    assert code == 2
    assert f"{tmp_path}/none.yaml is missing" in said


def test_without_versions_it_is_said_how_the_first_comes(run: Run, tmp_path: Path) -> None:
    code, said = run("setup", "versions", f"--prefix={tmp_path}/slurm-fsx")
    assert code == 0
    assert f"no version is in {tmp_path}/slurm-fsx-versions" in said


def test_a_folder_that_is_no_archive_is_told_and_nothing_is_made(run: Run, tmp_path: Path) -> None:
    code, said = run("setup", "place", str(tmp_path), f"--prefix={tmp_path}/slurm-fsx")
    assert code == 1
    assert f"{tmp_path} is no unpacked archive" in said
    assert list(tmp_path.iterdir()) == []
