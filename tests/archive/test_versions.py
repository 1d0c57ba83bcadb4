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

from .conftest import Copy, Unpacked

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
    first: Unpacked, second: Unpacked, installed: Path, later: Path, run: Run, running: Running
) -> None:
    done = upgrade(run, installed, later)
    assert done.returncode == 0, done.stderr
    assert f"{installed} is {second.id}; before: {first.id}" in done.stderr
    assert running(installed).startswith("slurm-fsx 0.2.0 ")
    listed = json.loads(run(installed, "setup", "versions", "--json", f"--prefix={installed}").stdout)
    assert listed == [
        {"id": second.id, "is_current": True, "is_previous": False},
        {"id": first.id, "is_current": False, "is_previous": True},
    ]
    for expected in ("0.1.0", "0.2.0", "0.1.0"):
        assert rollback(run, installed).returncode == 0
        assert running(installed).startswith(f"slurm-fsx {expected} ")
    assert leftovers(installed) == []


def test_an_older_version_can_be_installed_over_a_newer_one(first: Unpacked, upgraded: Path, running: Running) -> None:
    assert first.install(upgraded).returncode == 0
    assert running(upgraded).startswith("slurm-fsx 0.1.0 ")


def test_without_a_version_before_nothing_is_rolled_back(installed: Path, run: Run) -> None:
    done = rollback(run, installed)
    assert done.returncode == 1
    assert "no version ran before this one" in done.stderr


def test_the_same_version_again_changes_nothing(first: Unpacked, installed: Path) -> None:
    before = installed.resolve().stat().st_ino
    assert first.install(installed).returncode == 0
    assert installed.resolve().stat().st_ino == before
    assert not Path(f"{installed}-versions/previous").is_symlink()


def test_the_same_version_again_mends_one_that_was_spoilt(first: Unpacked, installed: Path, run: Run) -> None:
    shutil.rmtree(installed / "lib/python3/site-packages/click")
    assert run(installed, "config", "show").returncode != 0
    assert first.install(installed).returncode == 0
    assert run(installed, "config", "show").returncode == 0
    assert leftovers(installed) == []


def test_a_spoilt_version_is_not_rolled_back_to(first: Unpacked, upgraded: Path, run: Run, running: Running) -> None:
    module = Path(f"{upgraded}-versions/{first.id}") / "lib/python3/site-packages/slurm_fsx_tools/job.py"
    module.unlink()
    module.write_text("")
    done = rollback(run, upgraded)
    assert done.returncode == 1
    assert "slurm_fsx_tools/job.py" in done.stderr
    assert running(upgraded).startswith("slurm-fsx 0.2.0 ")


@pytest.mark.parametrize("moments", [pytest.param(3, id="some"), pytest.param(24, id="many", marks=pytest.mark.slow)])
def test_an_installation_killed_at_any_moment_leaves_what_ran(
    second: Unpacked, installed: Path, with_first: Copy, running: Running, moments: int
) -> None:
    killed = 0
    for moment in range(moments):
        process = subprocess.Popen(second.command(installed), stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(with_first.took_s * (moment + 0.5) / moments)
        os.killpg(process.pid, signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        assert running(installed).startswith(("slurm-fsx 0.1.0 ", "slurm-fsx 0.2.0 "))
    assert killed > 0
    assert second.install(installed).returncode == 0
    assert running(installed).startswith("slurm-fsx 0.2.0 ")
    assert leftovers(installed) == []


@pytest.mark.parametrize(
    ("room", "said"),
    [
        pytest.param(0.5, "No space left on device", id="for half of the files"),
        pytest.param(1.1, "bytecode could not be written", id="for the files alone"),
    ],
)
def test_a_full_disk_leaves_what_ran_and_nothing_half(
    first: Unpacked, second: Unpacked, prefix: Path, with_first: Copy, room: float, said: str
) -> None:
    size = sum(path.stat().st_blocks * 512 for path in first.folder.rglob("*"))
    script = f"""
        mount -t tmpfs -o size={size * 4} disk "$1" && cp -a "$2"/. "$1" || exit 99
        mount -o remount,size=$(($(df -k --output=used "$1" | tail -n 1) + {int(size * room) // 1024}))k "$1" || exit 97
        sh "$3/install.sh" --prefix="$4"
        echo "ended $?"
        "$4/bin/slurm-fsx" --version
        ls -A "$4-versions"
    """
    command = ["unshare", "--mount", "sh", "-c", script, "sh", prefix.parent, with_first.folder, second.folder, prefix]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said in done.stderr
    ended, shown, *names = done.stdout.splitlines()
    assert ended == "ended 1"
    assert shown.startswith("slurm-fsx 0.1.0 ")
    assert sorted(names) == [".lock", first.id]


def test_two_at_once_both_end_well(first: Unpacked, second: Unpacked, installed: Path, running: Running) -> None:
    both = [subprocess.Popen(second.command(installed), stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert ids(installed) == {first.id, second.id}
    assert running(installed).startswith("slurm-fsx 0.2.0 ")
    assert leftovers(installed) == []


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
    installed: Path, later: Path, run: Run, running: Running, fault: str
) -> None:
    whole = later.read_bytes()
    if fault == "no sum":
        Path(f"{later}.sha256").unlink()
    else:
        later.write_bytes(whole[: len(whole) // 2] + (b"" if fault == "cut" else b"x" + whole[len(whole) // 2 + 1 :]))
    done = upgrade(run, installed, later)
    assert done.returncode == 1
    assert (".sha256 is missing" if fault == "no sum" else "has not the SHA-256") in done.stderr
    assert running(installed).startswith("slurm-fsx 0.1.0 ")
    assert leftovers(installed) == []


def test_the_sum_may_be_given(installed: Path, later: Path, run: Run) -> None:
    beside = Path(f"{later}.sha256")
    digest = beside.read_text().split()[0]
    beside.unlink()
    assert upgrade(run, installed, later, f"--sha256={'0' * 64}").returncode == 1
    assert upgrade(run, installed, later, f"--sha256={digest}").returncode == 0


def test_old_versions_go_but_not_what_runs_or_ran_or_is_needed_to_go_back(
    first: Unpacked, second: Unpacked, upgraded: Path, tmp_path: Path, run: Run
) -> None:
    assert rollback(run, upgraded).returncode == 0
    # A command that runs for long, an installation of NCCL say, holds its version.
    code = "import sys; sys.argv[:] = ['slurm-fsx', '--version']; exec(open(sys.prefix + '/bin/slurm-fsx').read())"
    held = subprocess.Popen(
        [upgraded / "bin/python3", "-I", "-c", f"{code}; print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert held.stdout is not None
    assert held.stdout.readline().startswith("slurm-fsx 0.1.0 ")
    later = [first.copy(tmp_path / str(number), f"1.{number}") for number in range(2)]
    for each in later:
        assert each.install(upgraded).returncode == 0
    kept = {each.id for each in (second, *later)}
    assert ids(upgraded) == {first.id, *kept}
    held.communicate("\n")
    later[1].install(upgraded)
    assert ids(upgraded) == kept


def test_a_command_that_runs_stays_with_its_version(first: Unpacked, second: Unpacked, installed: Path) -> None:
    code = (
        "import sys; sys.argv[:] = ['slurm-fsx', '--version']; exec(open(sys.prefix + '/bin/slurm-fsx').read());"
        "print(flush=True); input(); import slurm_fsx_tools.uses as late; print(late.__file__); print(sys.prefix)"
    )
    process = subprocess.Popen(
        [installed / "bin/python3", "-I", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("slurm-fsx 0.1.0 ")
    second.install(installed)
    late, public = process.communicate("\n")[0].split()
    assert late.startswith(f"{installed}-versions/{first.id}/")
    # What it tells others, a unit or another node, is the place that stays.
    assert public == str(installed)


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


def test_a_folder_of_a_lower_layer_is_left_and_what_to_do_is_said(
    first: Unpacked, prefix: Path, tmp_path: Path
) -> None:
    (prefix / "bin").mkdir(parents=True)
    script = """
        mount -t tmpfs layers "$1" && mkdir "$1/upper" "$1/work" &&
        mount -t overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" overlay "$2" || exit 99
        sh "$3/install.sh" --prefix="$4"
        echo "ended $?"
        mv "$4" "$4.old" && sh "$3/install.sh" --prefix="$4"
    """
    command = ["unshare", "--mount", "sh", "-c", script, "sh", tmp_path, prefix.parent, first.folder, prefix]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert f"{prefix} cannot be renamed" in done.stderr
    assert f"run: mv {prefix} {prefix}.old" in done.stderr
    assert done.stdout.startswith("ended 1\n")
    assert done.returncode == 0
    assert f"{prefix} is 0.1.0-" in done.stderr


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
