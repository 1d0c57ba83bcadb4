"""Plan, apply and undo as a whole: failures, kills, two at once, disks that are full or read-only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from slurm_fsx_tools.errors import LockTimeout, NotHere, SlurmFsxError
from slurm_fsx_tools.provision.steps import File, Folder, Line, Link, Record, Step, apply, undo

from .conftest import Machine, said

OLD = (
    Folder("/etc/ours", 0o750),
    File("/etc/slurm/prolog.d/50-ours", "old\n", 0o755),
    Line("/etc/slurm/plugstack.conf", "ours v1", before="theirs", key="ours", backup=True),
    File("/etc/retired", "of an older release\n"),
)
STEPS = (
    Folder("/etc/ours", 0o755),
    File("/etc/slurm/prolog.d/50-ours", "new\n", 0o755),
    File("/etc/taken", "ours\n"),
    Line("/etc/slurm/plugstack.conf", "ours v2", before="theirs", key="ours", backup=True),
    Link("/etc/link", "ours"),
)
CHECKOUT = Path(__file__).parents[4]
CALLS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.chown", "os.symlink", "os.setxattr")


class Absent:
    """A step that this machine has no use for."""

    kind = "absent"
    name = "absent"

    def check(self, record: Record) -> None:
        raise NotHere("no systemd runs here")


def prepare(machine: Machine) -> None:
    machine.write("/etc/slurm/plugstack.conf", "theirs\n")
    machine.write("/etc/taken", "theirs\n")


def test_what_an_older_release_made_and_this_one_does_not_is_taken_back(machine: Machine) -> None:
    prepare(machine)
    machine.apply(*OLD)
    assert ("change", "file /etc/retired") in said(machine.plan(*STEPS))
    outcome = machine.apply(*STEPS)
    assert ("removed", "file /etc/retired") in said(outcome)
    assert not machine.path("/etc/retired").exists()
    assert machine.read("/etc/slurm/plugstack.conf") == "ours v2\ntheirs\n"


def test_a_step_that_fails_is_reported_and_the_others_are_taken(machine: Machine) -> None:
    outcome = machine.apply(File("/nowhere/file", "x"), File("/etc/file", "x"))
    assert said(outcome) == [("failed", "file /nowhere/file"), ("changed", "file /etc/file")]
    assert outcome.failed
    assert "No such file" in next(iter(outcome)).text


def test_a_step_that_the_machine_has_no_use_for_is_skipped_and_no_failure(machine: Machine) -> None:
    outcome = machine.apply(Absent())  # type: ignore[arg-type]
    assert said(outcome) == [("skipped", "absent")]
    assert not outcome.failed


def kill_at(number: int, machine: Machine, act: object) -> bool:
    """Do something in a child that is killed before its n-th call that changes files; say whether it was."""
    child = os.fork()
    if child == 0:
        left = number

        def count(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            if event in CALLS and (event != "open" or (isinstance(arguments[2], int) and arguments[2] & os.O_CREAT)):
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(count)
            act(machine)  # type: ignore[operator]
            os._exit(0)
        finally:
            os._exit(3)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def act_apply(machine: Machine) -> None:
    machine.apply(*STEPS, force=True)


def act_undo(machine: Machine) -> None:
    machine.undo()


def test_killed_before_any_of_its_calls_it_goes_on_and_can_be_taken_back(machine: Machine) -> None:
    prepare(machine)
    before = machine.tree()
    machine.apply(*STEPS, force=True)
    whole = machine.tree()
    machine.undo()
    assert machine.tree() == before
    number = 0
    while True:
        machine.apply(*OLD)
        killed = kill_at(number, machine, act_apply)
        look_at_folders_read_by_pattern(machine)
        if number % 2:
            machine.undo()
            assert machine.tree() == before, f"undone after a kill at call {number}"
        machine.apply(*STEPS, force=True)
        assert machine.tree() == whole, f"gone on after a kill at call {number}"
        machine.undo()
        assert machine.tree() == before
        if not killed:
            break
        number += 1
    assert number > 50


def test_an_undo_that_is_killed_goes_on(machine: Machine) -> None:
    prepare(machine)
    before = machine.tree()
    number = 0
    while True:
        machine.apply(*STEPS, force=True)
        killed = kill_at(number, machine, act_undo)
        look_at_folders_read_by_pattern(machine)
        machine.undo()
        assert machine.tree() == before, f"gone on after a kill at call {number}"
        if not killed:
            break
        number += 1
    assert number > 15


def look_at_folders_read_by_pattern(machine: Machine) -> None:
    names = os.listdir(machine.path("/etc/slurm/prolog.d"))
    assert names in ([], ["50-ours"])
    if names:
        assert machine.read("/etc/slurm/prolog.d/50-ours") in ("old\n", "new\n")
    assert machine.read("/etc/slurm/plugstack.conf").splitlines()[-1] == "theirs"


def test_no_reader_ever_sees_a_part_or_a_file_that_is_not_ours(machine: Machine) -> None:
    prepare(machine)
    texts = [f"{number}\n" * 20000 for number in range(2)]
    seen: set[str] = set()
    names: set[str] = set()
    end = threading.Event()

    def read() -> None:
        while not end.is_set():
            names.update(os.listdir(machine.path("/etc/slurm/prolog.d")))
            try:
                seen.add(machine.read("/etc/slurm/prolog.d/50-ours"))
            except FileNotFoundError:
                pass

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(40):
            machine.apply(File("/etc/slurm/prolog.d/50-ours", texts[number % 2]))
    finally:
        end.set()
        reader.join()
    assert names == {"50-ours"}
    assert seen <= set(texts)


def test_a_second_run_waits_for_the_first_and_finds_nothing_to_do(machine: Machine) -> None:
    outcomes = []

    def run() -> None:
        outcomes.append(machine.apply(*STEPS))

    runs = [threading.Thread(target=run) for _ in range(4)]
    with Record.open("test", str(machine.root)) as record:
        for each in runs:
            each.start()
        time.sleep(0.3)
        assert outcomes == []
        apply([], record)
    for each in runs:
        each.join()
    assert sorted(len(outcome.events) for outcome in outcomes) == [0, 0, 0, len(STEPS)]


def test_a_run_that_waited_too_long_says_so(machine: Machine) -> None:
    second = Record.open("two", str(machine.root), wait_s=0)
    with Record.open("one", str(machine.root)), pytest.raises(LockTimeout, match="another set-up"), second:
        pass


def test_a_record_goes_with_its_last_step_and_the_others_stay(machine: Machine) -> None:
    machine.apply(File("/etc/one", "x"))
    with Record.open("other", str(machine.root)) as record:
        apply([File("/etc/two", "x")], record)
    assert Record.known(str(machine.root)) == ["other", "test"]
    machine.undo()
    assert Record.known(str(machine.root)) == ["other"]
    with Record.open("other", str(machine.root)) as record:
        undo(record)
    assert not machine.path("/var/lib/slurm-fsx").exists()


def test_a_record_of_a_newer_release_is_left_alone(machine: Machine) -> None:
    machine.apply(*STEPS)
    path = machine.path("/var/lib/slurm-fsx/setup/test.json")
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "format": 2}))
    with pytest.raises(SlurmFsxError, match="newer"):
        machine.apply(*STEPS)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": 1, "steps": {"x": 1}}'])
def test_a_broken_record_is_an_error_that_names_the_file(machine: Machine, text: str) -> None:
    machine.apply(*STEPS)
    path = machine.path("/var/lib/slurm-fsx/setup/test.json")
    path.write_text(text)
    with pytest.raises(SlurmFsxError, match=str(path)):
        machine.apply(*STEPS)


def test_who_is_not_root_is_told_so_before_anything_is_done(needs_root: None) -> None:
    code = """
import os
from slurm_fsx_tools.provision.steps import Record
os.setuid(12345)
try:
    with Record.open("test"):
        pass
except Exception as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CHECKOUT)
    assert "needs root" in done.stdout


ELSEWHERE = """
import os, sys
from slurm_fsx_tools.provision.steps import File, Folder, Line, Record, apply
steps = [File("/etc/slurm/prolog.d/50-ours", "x" * 300000), Folder("/etc/made"), Line("/etc/slurm/plugstack.conf", "z")]
with Record.open("test", sys.argv[1]) as record:
    for event in apply(steps, record):
        print(event.outcome, event.text)
print(*sorted(os.path.join(place, name) for place, _, names in os.walk(sys.argv[1] + "/etc") for name in names))
"""


def on_mount(machine: Machine, mount: str) -> list[str]:
    """Take a few steps with something mounted below the machine's root; give what was reported."""
    script = f'cd "$1" && {mount} && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", str(machine.root), sys.executable, ELSEWHERE],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("cannot mount here")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_read_only_etc_is_said_step_by_step_and_nothing_changes(machine: Machine, needs_root: None) -> None:
    prepare(machine)
    before = machine.tree()
    lines = on_mount(machine, "mount --bind etc etc && mount -o remount,bind,ro etc")
    assert len(lines) == 4
    assert all(line.endswith("Read-only file system") for line in lines[:3])
    names = ("file /etc/slurm/prolog.d/50-ours", "folder /etc/made", "line /etc/slurm/plugstack.conf: z")
    assert [line.startswith(f"failed {name}: ") for line, name in zip(lines, names)] == [True] * 3
    assert "staged" not in "".join(lines[:3])
    assert machine.tree() == before
    assert {outcome for outcome, _ in said(machine.apply(*STEPS, force=True))} == {"changed", "removed"}


def test_on_a_full_disk_no_file_is_half_written(machine: Machine, needs_root: None) -> None:
    prepare(machine)
    tmpfs = "mount -t tmpfs -o size=100k none etc"
    *events, files = on_mount(
        machine, f"{tmpfs} && mkdir -p etc/slurm/prolog.d && echo theirs >etc/slurm/plugstack.conf"
    )
    assert "No space left" in events[0]
    assert [event.split()[0] for event in events] == ["failed", "changed", "changed"]
    assert files == str(machine.path("/etc/slurm/plugstack.conf"))


def test_a_full_disk_for_the_record_keeps_the_steps_from_being_taken(machine: Machine, needs_root: None) -> None:
    prepare(machine)
    before = machine.tree()
    small = "mkdir -p var/lib && mount -t tmpfs -o size=16k none var/lib && mkdir -p var/lib/slurm-fsx/setup"
    fill = "touch var/lib/slurm-fsx/setup/lock && { head -c 99999 /dev/zero >var/lib/fill 2>/dev/null || :; }"
    lines = on_mount(machine, f"{small} && {fill}")
    assert [line.split()[0] for line in lines[:3]] == ["failed"] * 3
    assert all("No space left" in line for line in lines[:3])
    assert machine.tree() == before


def steps_are_steps() -> tuple[Step, ...]:
    """The concrete classes are what the protocol says: mypy sees it."""
    return STEPS
