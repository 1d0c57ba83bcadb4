"""Versions side by side, on a real file system, with all that can go wrong on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Unpacked

Run = Callable[..., subprocess.CompletedProcess[str]]
Running = Callable[[Path], str]


def ids(prefix: Path) -> set[str]:
    return {path.name for path in Path(f"{prefix}-versions").iterdir() if path.is_dir() and not path.is_symlink()}


def leftovers(prefix: Path) -> list[str]:
    return [path.name for path in Path(f"{prefix}-versions").iterdir() if path.name.startswith(".") and path.is_dir()]


def upgrade(run: Run, prefix: Path, archive: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return run(prefix, "setup", "upgrade", str(archive), f"--prefix={prefix}", *more)


def rollback(run: Run, prefix: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return run(prefix, "setup", "rollback", f"--prefix={prefix}", *more)


@pytest.fixture
def later(second: Unpacked, tmp_path: Path) -> Path:
    """The archive of a later release."""
    return second.pack(tmp_path)


def test_an_upgrade_turns_the_link_and_a_roll_back_turns_it_back_and_forth(
    first: Unpacked, second: Unpacked, prefix: Path, later: Path, run: Run, running: Running
) -> None:
    assert first.install(prefix).returncode == 0
    done = upgrade(run, prefix, later)
    assert done.returncode == 0, done.stderr
    assert f"{prefix} is {second.id}; before: {first.id}" in done.stderr
    assert running(prefix).startswith("slurm-fsx 0.2.0 ")
    listed = json.loads(run(prefix, "setup", "versions", "--json", f"--prefix={prefix}").stdout)
    assert listed == [
        {"id": second.id, "is_current": True, "is_previous": False},
        {"id": first.id, "is_current": False, "is_previous": True},
    ]
    for expected in ("0.1.0", "0.2.0", "0.1.0"):
        assert rollback(run, prefix).returncode == 0
        assert running(prefix).startswith(f"slurm-fsx {expected} ")
    assert leftovers(prefix) == []


def test_an_older_version_can_be_installed_over_a_newer_one(
    first: Unpacked, second: Unpacked, prefix: Path, running: Running
) -> None:
    second.install(prefix)
    first.install(prefix)
    assert running(prefix).startswith("slurm-fsx 0.1.0 ")


def test_without_a_version_before_nothing_is_rolled_back(first: Unpacked, prefix: Path, run: Run) -> None:
    first.install(prefix)
    done = rollback(run, prefix)
    assert done.returncode == 1
    assert "no version ran before this one" in done.stderr


def test_the_same_version_again_changes_nothing(first: Unpacked, prefix: Path) -> None:
    first.install(prefix)
    before = prefix.resolve().stat().st_ino
    assert first.install(prefix).returncode == 0
    assert prefix.resolve().stat().st_ino == before
    assert not Path(f"{prefix}-versions/previous").is_symlink()


def test_the_same_version_again_mends_one_that_was_spoilt(
    first: Unpacked, prefix: Path, run: Run, running: Running
) -> None:
    first.install(prefix)
    shutil.rmtree(prefix / "lib/python3/site-packages/click")
    assert run(prefix, "config", "show").returncode != 0
    assert first.install(prefix).returncode == 0
    assert run(prefix, "config", "show").returncode == 0
    assert leftovers(prefix) == []


def test_a_spoilt_version_is_not_rolled_back_to(
    first: Unpacked, second: Unpacked, prefix: Path, run: Run, running: Running
) -> None:
    first.install(prefix)
    second.install(prefix)
    (Path(f"{prefix}-versions/{first.id}") / "lib/python3/site-packages/slurm_fsx_tools/job.py").write_text("")
    done = rollback(run, prefix)
    assert done.returncode == 1
    assert "slurm_fsx_tools/job.py" in done.stderr
    assert running(prefix).startswith("slurm-fsx 0.2.0 ")


def test_an_installation_killed_at_any_moment_leaves_what_ran(
    first: Unpacked, second: Unpacked, prefix: Path, running: Running
) -> None:
    first.install(prefix)
    begun = time.monotonic()
    second.install(prefix.with_name("measured"))
    whole_s = time.monotonic() - begun
    killed = 0
    for part in range(8):
        process = subprocess.Popen(second.command(prefix), stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(whole_s * part / 8)
        os.killpg(process.pid, signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        assert running(prefix).startswith(("slurm-fsx 0.1.0 ", "slurm-fsx 0.2.0 "))
    assert killed > 0
    assert second.install(prefix).returncode == 0
    assert running(prefix).startswith("slurm-fsx 0.2.0 ")
    assert leftovers(prefix) == []


@pytest.mark.parametrize(
    ("room", "said"),
    [
        pytest.param(0.5, "No space left on device", id="for half of the files"),
        pytest.param(1.1, "bytecode could not be written", id="for the files alone"),
    ],
)
def test_a_full_disk_leaves_what_ran_and_nothing_half(
    first: Unpacked, second: Unpacked, tmp_path: Path, room: float, said: str
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    size = sum(path.stat().st_blocks * 512 for path in first.folder.rglob("*"))
    script = f"""
        mount -t tmpfs -o size={size * 4} disk "$1" || exit 99
        sh "$2/install.sh" --prefix="$1/f" || exit 98
        mount -o remount,size=$(($(df -k --output=used "$1" | tail -n 1) + {int(size * room) // 1024}))k "$1" || exit 97
        sh "$3/install.sh" --prefix="$1/f"
        echo "ended $?"
        "$1/f/bin/slurm-fsx" --version
        ls -A "$1/f-versions"
    """
    command = ["unshare", "--mount", "sh", "-c", script, "sh", str(disk), str(first.folder), str(second.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said in done.stderr
    ended, shown, *names = done.stdout.splitlines()
    assert ended == "ended 1"
    assert shown.startswith("slurm-fsx 0.1.0 ")
    assert sorted(names) == [".lock", first.id]


def test_two_at_once_both_end_well(first: Unpacked, second: Unpacked, prefix: Path, running: Running) -> None:
    both = [
        subprocess.Popen(each.command(prefix), stderr=subprocess.PIPE, text=True) for each in (first, second, second)
    ]
    assert [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0, 0]
    assert ids(prefix) == {first.id, second.id}
    assert running(prefix).startswith("slurm-fsx 0.")
    assert leftovers(prefix) == []


@pytest.mark.parametrize("fault", ["changed", "missing", "added", "manifest"])
def test_a_folder_that_is_not_as_it_was_made_is_refused(
    first: Unpacked, prefix: Path, tmp_path: Path, fault: str
) -> None:
    other = first.copy(tmp_path / "other")
    prolog = other.folder / "share/slurm-fsx/prolog.d/50-slurm-fsx"
    if fault == "changed":
        prolog.write_text(prolog.read_text() + "touch /owned\n")
    elif fault == "missing":
        prolog.unlink()
    elif fault == "added":
        (other.folder / "lib/python3/site-packages/json.py").write_text("")
    else:
        (other.folder / "MANIFEST").write_text("")
    done = other.install(prefix)
    assert done.returncode == 1
    assert "is not as it was made" in done.stderr
    assert not prefix.is_symlink()
    assert leftovers(prefix) == []


@pytest.mark.parametrize("fault", ["changed", "cut", "no sum"])
def test_an_archive_that_is_not_what_its_sum_says_is_refused(
    first: Unpacked, prefix: Path, later: Path, run: Run, running: Running, fault: str
) -> None:
    first.install(prefix)
    whole = later.read_bytes()
    if fault == "no sum":
        Path(f"{later}.sha256").unlink()
    else:
        later.write_bytes(whole[: len(whole) // 2] + (b"" if fault == "cut" else b"x" + whole[len(whole) // 2 + 1 :]))
    done = upgrade(run, prefix, later)
    assert done.returncode == 1
    assert (".sha256 is missing" if fault == "no sum" else "has not the SHA-256") in done.stderr
    assert running(prefix).startswith("slurm-fsx 0.1.0 ")
    assert leftovers(prefix) == []


def test_the_sum_may_be_given(first: Unpacked, prefix: Path, later: Path, run: Run) -> None:
    first.install(prefix)
    beside = Path(f"{later}.sha256")
    digest = beside.read_text().split()[0]
    beside.unlink()
    assert upgrade(run, prefix, later, f"--sha256={'0' * 64}").returncode == 1
    assert upgrade(run, prefix, later, f"--sha256={digest}").returncode == 0


def test_old_versions_go_but_not_what_runs_or_ran_or_is_needed_to_go_back(
    first: Unpacked, prefix: Path, tmp_path: Path
) -> None:
    releases = [first.copy(tmp_path / str(number), f"1.{number}") for number in range(5)]
    for each in releases[:2]:
        each.install(prefix)
    # A command that runs for long, an installation of NCCL say, holds its version.
    code = "import sys; sys.argv[:] = ['slurm-fsx', '--version']; exec(open(sys.prefix + '/bin/slurm-fsx').read())"
    held = subprocess.Popen(
        [prefix / "bin/python3", "-I", "-c", f"{code}; print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert held.stdout is not None
    assert held.stdout.readline().startswith("slurm-fsx 1.1 ")
    for each in releases[2:]:
        each.install(prefix)
    kept = {releases[index].id for index in (1, 2, 3, 4)}
    assert ids(prefix) == kept
    held.communicate("\n")
    releases[4].install(prefix)
    assert ids(prefix) == kept - {releases[1].id}


def test_a_command_that_runs_stays_with_its_version(first: Unpacked, second: Unpacked, prefix: Path) -> None:
    first.install(prefix)
    code = (
        "import sys; sys.argv[:] = ['slurm-fsx', '--version']; exec(open(sys.prefix + '/bin/slurm-fsx').read());"
        "print(flush=True); input(); import slurm_fsx_tools.uses as late; print(late.__file__); print(sys.prefix)"
    )
    process = subprocess.Popen(
        [prefix / "bin/python3", "-I", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("slurm-fsx 0.1.0 ")
    second.install(prefix)
    late, public = process.communicate("\n")[0].split()
    assert late.startswith(f"{prefix}-versions/{first.id}/")
    # What it tells others, a unit or another node, is the place that stays.
    assert public == str(prefix)


def test_a_folder_that_make_install_made_is_kept_to_go_back_to(
    first: Unpacked, prefix: Path, run: Run, running: Running
) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
    (prefix / "bin/slurm-fsx").write_text("#!/bin/sh\necho slurm-fsx 0.0.1\n")
    (prefix / "bin/slurm-fsx").chmod(0o755)
    assert first.install(prefix).returncode == 0
    assert prefix.is_symlink()
    assert running(prefix).startswith("slurm-fsx 0.1.0 ")
    assert rollback(run, prefix).returncode == 0
    assert running(prefix) == "slurm-fsx 0.0.1"


def test_a_user_is_told_to_be_root(first: Unpacked) -> None:
    with tempfile.TemporaryDirectory() as open_folder:
        os.chmod(open_folder, 0o755)
        copy = first.copy(Path(open_folder))
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        command += copy.command(Path(open_folder) / "slurm-fsx")
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "run it as root" in done.stderr
        assert [path.name for path in Path(open_folder).iterdir()] == [copy.folder.name]
