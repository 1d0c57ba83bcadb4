"""Checks of a machine: real files, real locks of a process that was killed."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slurm_fsx_tools.containers.store import Store
from slurm_fsx_tools.provision.doctor.findings import NOTE, UNKNOWN, WARNING
from slurm_fsx_tools.shared_lock import hold

from .conftest import Machine

NO_JOBS = {"settings": {}, "conf": "", "reason": "", "is_here": True}
HOUR_S = 3600


@pytest.fixture
def squeue(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A squeue that knows job 7; tests/cluster has the real one."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "squeue").write_text("#!/bin/sh\necho 7\n")
    (folder / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    machine.facts["slurm"] = NO_JOBS
    return folder / "squeue"


def leave(machine: Machine, name: str, age_s: float = HOUR_S) -> Path:
    path = machine.run / "jobs" / name
    path.write_text("# slurm-fsx env 1\n")
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def test_files_of_jobs_that_run_or_have_just_begun_are_well(machine: Machine, squeue: Path) -> None:
    leave(machine, "7.env")
    leave(machine, "7.log")
    leave(machine, "8.env", age_s=5)
    assert not machine.find("job-files")


def test_files_of_ended_jobs_are_found_and_the_command_takes_them_away(machine: Machine, squeue: Path) -> None:
    stale = [leave(machine, name) for name in ("8.env", "8.log", "9.env")]
    kept = leave(machine, "7.env")
    (finding,) = machine.find("job-files")
    assert (finding.severity, finding.is_safe) == (WARNING, True)
    assert "still has files of ended jobs (2): 8, 9." in finding.finding
    # A job that was requeued meanwhile keeps its file: it is new.
    os.utime(stale[2])
    subprocess.run(shlex.split(finding.command), check=True)
    assert [path.exists() for path in (*stale, kept)] == [False, False, True, True]


def test_without_an_answer_of_slurm_nobody_knows_which_jobs_have_ended(machine: Machine, squeue: Path) -> None:
    leave(machine, "8.env")
    machine.facts["slurm"] = {**NO_JOBS, "reason": "away"}
    (finding,) = machine.find("job-files")
    assert finding.severity == UNKNOWN


def test_what_containers_left_is_told(machine: Machine, tmp_path: Path, needs_root: None) -> None:
    state = tmp_path / "state"
    machine.values["containers.state_dir"] = str(state)
    assert not machine.find("left-overs")
    root = state / "roots/2001.pyxis_12_pytorch"
    (root / "jobs").mkdir(parents=True)
    (root / "jobs/12").touch()
    (state / "locks").mkdir()
    (finding,) = machine.find("left-overs")
    assert finding.finding == "Left here by ended jobs (1): pyxis_12_pytorch of user 2001, whose job has ended."
    assert (finding.command, finding.is_safe) == ("slurm-fsx containers cleanup", True)
    assert (root / "jobs/12").exists()


def lock_path(machine: Machine) -> str:
    path = Store(str(machine.fsx / "containers")).lock("nvcr.io_nvidia_nemo-1.sqsh")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return path


def test_a_lock_that_is_held_or_free_is_well(machine: Machine) -> None:
    path = lock_path(machine)
    with hold(path):
        assert not machine.find("locks")
    assert not machine.find("locks")


def test_a_lock_of_a_killed_process_is_a_note(machine: Machine) -> None:
    path = lock_path(machine)
    code = "import sys, time; from slurm_fsx_tools.shared_lock import hold; hold(sys.argv[1]);"
    code += "print(1, flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        assert not machine.find("locks")
        process.kill()
    (finding,) = machine.find("locks")
    assert (finding.severity, finding.finding) == (
        NOTE,
        f"{path} is held by process {process.pid} on {os.uname().nodename}, who is gone.",
    )


def test_a_lock_of_another_node_that_was_silent_for_long_is_a_note(machine: Machine) -> None:
    path = lock_path(machine)
    lease = {"host": "n9", "pid": 1, "since_s": 1.0, "kernel": "other", "started": 1, "heartbeat_s": 5.0}
    lease.update(token="x", flock=False)
    Path(f"{path}.1").write_text(json.dumps(lease))
    assert not machine.find("locks")
    os.utime(f"{path}.1", (time.time() - HOUR_S,) * 2)
    assert "process 1 on n9" in machine.texts("locks")[0]


@pytest.mark.parametrize(("answer", "is_well"), [(0, True), (5, False)], ids=["synchronised", "not"])
def test_a_clock_that_nothing_keeps_in_time_is_a_warning(machine: Machine, answer: int, is_well: bool) -> None:
    for unit, command in (("chronyd", "systemctl restart chronyd"), ("", "dnf install chrony")):
        machine.facts["clock"] = [answer, unit, ["dnf", "install"]]
        found = [(finding.severity, finding.command) for finding in machine.find("clock")]
        assert found == ([] if is_well else [(WARNING, command)])


def test_the_kernel_says_whether_its_clock_is_synchronised(machine: Machine) -> None:
    assert not [finding for finding in machine.find("clock") if finding.severity == UNKNOWN]


def test_full_local_disks_are_told_once_each(machine: Machine) -> None:
    gib = 1 << 30
    machine.facts["room"] = [
        ["/run", "Prologs", 30 << 20, 2 * gib],
        ["/var/tmp", "Imports", gib // 2, 500 * gib],
        ["/tmp", "Jobs", gib // 2, 500 * gib],
        ["/var/log", "Slurm", 2 * gib, 500 * gib],
    ]
    assert machine.texts("local-room") == ["/run has 0.0 GiB left.", "/var/tmp has 0.5 GiB left."]


def test_room_is_looked_at_where_a_folder_is_still_to_be_made(machine: Machine, tmp_path: Path) -> None:
    machine.values["containers.state_dir"] = str(tmp_path / "not/there/yet")
    assert not [finding for finding in machine.find("local-room") if finding.severity == UNKNOWN]
