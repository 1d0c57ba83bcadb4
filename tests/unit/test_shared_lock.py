"""Locks across nodes: with and without flock(2), and whatever becomes of their owners."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_fsx_tools.errors import LockLost, LockTimeout, UntrustedFile
from slurm_fsx_tools.flock import flock_holds, mount_has_flock
from slurm_fsx_tools.shared_lock import (
    BEATS_TO_STALE,
    Candidate,
    Owner,
    SharedLock,
    generations,
    hold,
    read_owner,
    try_hold,
)

BEAT_S = 0.05

HOLDER = """
import sys, time
from slurm_fsx_tools.errors import LockLost
from slurm_fsx_tools.shared_lock import Candidate
path, flock, beat = sys.argv[1], sys.argv[2] == "flock", float(sys.argv[3])
with Candidate(path, beat, flock) as candidate:
    while (lock := candidate.try_hold()) is None:
        time.sleep(0.005)
print("held", flush=True)
for line in sys.stdin:
    try:
        lock.check()
        print("fine", flush=True)
    except LockLost as error:
        print(f"lost: {error}", flush=True)
"""

COUNTER = """
import sys, time
from slurm_fsx_tools.shared_lock import Candidate
path, flock, counter, journal = sys.argv[1], sys.argv[2] == "flock", sys.argv[3], sys.argv[4]
end = time.monotonic() + float(sys.argv[5])
while time.monotonic() < end:
    with Candidate(path, 0.5, flock) as candidate:
        while (lock := candidate.try_hold()) is None:
            time.sleep(0.001)
    with open(counter) as file:
        number = int(file.read())
    with open(journal, "a") as file:
        file.write(f"{number}\\n")
    with open(counter, "r+") as file:
        file.write(f"{number + 1:020}")
    lock.release()
"""

both_ways = pytest.mark.parametrize("way", ["flock", "lease"])


@contextlib.contextmanager
def process(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            if running.poll() is None:
                running.send_signal(signal.SIGCONT)
                running.kill()


def ask(running: subprocess.Popen[str]) -> str:
    assert running.stdin is not None
    assert running.stdout is not None
    running.stdin.write("\n")
    running.stdin.flush()
    return running.stdout.readline().strip()


def await_held(running: subprocess.Popen[str]) -> None:
    assert running.stdout is not None
    assert running.stdout.readline() == "held\n"


def await_lock(candidate: Candidate) -> SharedLock:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        lock = candidate.try_hold()
        if lock is not None:
            return lock
        time.sleep(BEAT_S / 2)
    raise AssertionError("nobody could take the lock")


@pytest.fixture
def path(tmp_path: Path) -> str:
    folder = tmp_path / "locks"
    folder.mkdir(mode=0o755)
    return str(folder / "image.sqsh")


@pytest.fixture
def foreign_kernel(path: str) -> Callable[[], None]:
    """Makes the owner in the lock's file one of another node, which nobody can look for here."""

    def disguise() -> None:
        name = max(Path(path).parent.glob("image.sqsh.*"), key=lambda file: int(file.suffix[1:]))
        lease = json.loads(name.read_text())
        name.write_text(json.dumps({**lease, "host": "far-away", "kernel": "another", "flock": False}))

    return disguise


@both_ways
def test_one_at_a_time_has_a_lock(path: str, way: str) -> None:
    with Candidate(path, flock=way == "flock") as first, Candidate(path, flock=way == "flock") as second:
        lock = first.try_hold()
        assert lock is not None
        assert second.try_hold() is None
        assert second.owner == Owner(os.uname().nodename, os.getpid(), second.owner.since_s)
        lock.check()
        lock.release()
        successor = second.try_hold()
        assert successor is not None
        successor.release()


def test_mounts_that_differ_in_flock_exclude_each_other(path: str) -> None:
    with Candidate(path, flock=True) as first, Candidate(path, flock=False) as second:
        for one, other in ((first, second), (second, first)):
            lock = one.try_hold()
            assert lock is not None
            assert other.try_hold() is None
            lock.release()


def test_who_has_a_lock_can_be_read_by_anybody(path: str) -> None:
    assert read_owner(path) is None
    with hold(path):
        owner = read_owner(path)
        assert owner is not None
        assert (owner.host, owner.pid) == (os.uname().nodename, os.getpid())
        assert abs(owner.since_s - time.time()) < 60
    assert read_owner(path) is None


def test_waiting_ends_with_the_owners_name(path: str) -> None:
    told: list[Owner] = []
    with hold(path), pytest.raises(LockTimeout, match=f"process {os.getpid()} on {os.uname().nodename}"):
        hold(path, timeout_s=0.1, poll_s=0.01, on_wait=told.append)
    assert [owner.pid for owner in told] == [os.getpid()]


def test_a_released_lock_is_no_longer_ours(path: str) -> None:
    lock = try_hold(path)
    assert lock is not None
    lock.release()
    lock.release()
    with pytest.raises(LockLost):
        lock.check()


def test_few_files_stay_of_many_holders(path: str) -> None:
    for _ in range(20):
        hold(path).release()
    assert len(list(Path(path).parent.iterdir())) <= 3
    numbers = generations(os.listdir(os.path.dirname(path)), "image.sqsh")
    assert max(numbers) == 20


@both_ways
def test_many_processes_that_die_at_any_moment_never_work_at_the_same_time(tmp_path: Path, path: str, way: str) -> None:
    """Each number is read and written under the lock: twice the same one is a killed holder's, never two holders'."""
    counter, journal = tmp_path / "counter", tmp_path / "journal"
    counter.write_text("0" * 20)
    journal.write_text("")
    dice = random.Random(way)
    kills = 0
    command = [sys.executable, "-c", COUNTER, path, way, str(counter), str(journal)]
    lasting = [subprocess.Popen([*command, "6"]) for _ in range(3)]
    try:
        while any(running.poll() is None for running in lasting):
            with subprocess.Popen([*command, "60"]) as victim:
                time.sleep(0.3 + dice.random() * 0.2)
                victim.kill()
                kills += 1
    finally:
        for running in lasting:
            running.kill()
            running.wait()
    assert [running.returncode for running in lasting] == [0, 0, 0]
    numbers = [int(line) for line in journal.read_text().split()]
    assert numbers == sorted(numbers)
    assert len(numbers) - len(set(numbers)) <= kills
    assert int(counter.read_text()) in (numbers[-1], numbers[-1] + 1)
    assert len(numbers) > 50


@both_ways
def test_a_killed_owner_keeps_nothing(path: str, way: str) -> None:
    with process(HOLDER, path, way, 60) as owner, Candidate(path, flock=way == "flock") as candidate:
        await_held(owner)
        assert candidate.try_hold() is None
        owner.kill()
        owner.wait()
        lock = candidate.try_hold()
        assert lock is not None
        lock.release()


def test_a_process_with_a_dead_owners_id_is_not_taken_for_it(path: str) -> None:
    with Candidate(path, flock=False) as candidate:
        lock = candidate.try_hold()
        assert lock is not None
        lease = json.loads(Path(f"{path}.1").read_text())
        assert lease["pid"] == os.getpid()
        Path(f"{path}.1").write_text(json.dumps({**lease, "started": lease["started"] - 1}))
        successor = candidate.try_hold()
        assert successor is not None
        successor.release()
        with pytest.raises(LockLost):
            lock.check()
        lock.release()


def test_an_owner_of_another_node_is_believed_as_long_as_it_is_heard(
    path: str, foreign_kernel: Callable[[], None]
) -> None:
    with process(HOLDER, path, "lease", BEAT_S) as owner, Candidate(path, flock=False) as candidate:
        await_held(owner)
        foreign_kernel()
        end = time.monotonic() + 3 * BEAT_S * BEATS_TO_STALE
        while time.monotonic() < end:
            assert candidate.try_hold() is None
            time.sleep(BEAT_S / 2)
        assert candidate.owner is not None
        assert candidate.owner.host == "far-away"


@both_ways
def test_an_owner_whose_process_cannot_be_seen_from_here_is_not_taken_for_dead(
    path: str, way: str, needs_root: None
) -> None:
    """A container's process has another id outside, or none: nodes of the lab are such containers."""
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-c", HOLDER]
    with (
        subprocess.Popen(
            [*command, path, way, str(BEAT_S)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as owner,
        Candidate(path, flock=way == "flock") as candidate,
    ):
        await_held(owner)
        end = time.monotonic() + 3 * BEAT_S * BEATS_TO_STALE
        while time.monotonic() < end:
            assert candidate.try_hold() is None
            time.sleep(BEAT_S / 2)
        assert ask(owner) == "fine"
        owner.kill()
        owner.wait()
        await_lock(candidate).release()


def test_a_stopped_owner_of_another_node_is_succeeded_and_learns_of_it(
    path: str, foreign_kernel: Callable[[], None]
) -> None:
    with process(HOLDER, path, "lease", BEAT_S) as owner, Candidate(path, flock=False) as candidate:
        await_held(owner)
        assert ask(owner) == "fine"
        foreign_kernel()
        owner.send_signal(signal.SIGSTOP)
        lock = await_lock(candidate)
        owner.send_signal(signal.SIGCONT)
        assert "was taken over by another process" in ask(owner)
        lock.check()
        lock.release()


def test_an_owner_whose_touch_hangs_does_not_trust_its_lock(path: str) -> None:
    with Candidate(path, BEAT_S, flock=False) as candidate:
        lock = candidate.try_hold()
        assert lock is not None
        with lock._guard:  # what a beat holds while it waits for the file system
            time.sleep(BEAT_S * BEATS_TO_STALE)
            with pytest.raises(LockLost, match="could not be touched"):
                lock.check()
        lock.release()


def test_silence_counts_only_while_somebody_listens(path: str, foreign_kernel: Callable[[], None]) -> None:
    with Candidate(path, 60, flock=False) as owner, Candidate(path, flock=False) as candidate:
        lock = owner.try_hold()
        assert lock is not None
        lease = json.loads(Path(f"{path}.1").read_text())
        Path(f"{path}.1").write_text(json.dumps({**lease, "heartbeat_s": BEAT_S}))
        foreign_kernel()
        assert candidate.try_hold() is None
        time.sleep(BEAT_S * BEATS_TO_STALE * 2)  # as if the file system had been away
        assert candidate.try_hold() is None
        await_lock(candidate).release()
        lock.release()


def test_who_was_asleep_with_a_number_that_came_and_went_backs_off(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def sleep_and_link(source: str, *arguments: object, **options: object) -> None:
        monkeypatch.setattr(os, "link", link)
        temporary = f"{os.path.dirname(path)}/{source}"
        link(temporary, f"{temporary}-kept")
        for _ in range(3):
            hold(path).release()  # each tidies away what others left
        link(f"{temporary}-kept", temporary)
        link(source, *arguments, **options)

    with Candidate(path, flock=False) as sleeper:
        monkeypatch.setattr(os, "link", sleep_and_link)
        assert sleeper.try_hold() is None
    assert sorted(generations(os.listdir(os.path.dirname(path)), "image.sqsh")) == [2, 3]


def test_planted_links_are_refused(tmp_path: Path, path: str) -> None:
    precious = tmp_path / "precious"
    precious.write_text("content")
    for name in (path, f"{path}.7"):
        os.symlink(precious, name)
        with pytest.raises(UntrustedFile, match="symbolic link"), Candidate(path, flock=True) as candidate:
            candidate.try_hold()
        os.unlink(name)
    assert precious.read_text() == "content"


def test_a_folder_that_others_may_write_to_holds_no_locks(path: str) -> None:
    os.chmod(os.path.dirname(path), 0o777)
    with pytest.raises(UntrustedFile, match="go-w"):
        try_hold(path)


@pytest.mark.parametrize(("folder_mode", "file_mode"), [(0o755, 0o644), (0o700, 0o600)])
def test_a_locks_files_are_for_those_who_may_enter_its_folder(path: str, folder_mode: int, file_mode: int) -> None:
    folder = os.path.dirname(path)
    os.chmod(folder, folder_mode)
    with hold(path):
        assert {os.stat(f"{folder}/{name}").st_mode & 0o777 for name in os.listdir(folder)} == {file_mode}


def test_root_leaves_a_users_locks_to_the_user(path: str, needs_root: None) -> None:
    folder = os.path.dirname(path)
    os.chown(folder, 4711, 4711)
    hold(path).release()
    assert {os.stat(f"{folder}/{name}").st_uid for name in os.listdir(folder)} == {4711}
    os.chown(f"{path}.1", 4712, 4712)
    with pytest.raises(UntrustedFile, match="4712"):
        try_hold(path)


@pytest.mark.parametrize(
    ("mount", "expected"),
    [
        pytest.param("lustre 10.0.0.1@tcp:/fsx rw,flock,lazystatfs", True, id="lustre"),
        pytest.param("lustre 10.0.0.1@tcp:/fsx rw,localflock,lazystatfs", False, id="lustre-localflock"),
        pytest.param("lustre 10.0.0.1@tcp:/fsx rw,lazystatfs", False, id="lustre-noflock"),
        pytest.param("nfs4 srv:/ rw,vers=4.2,local_lock=none", True, id="nfs4"),
        pytest.param("nfs srv:/ rw,vers=3,local_lock=none", True, id="nfs3"),
        pytest.param("nfs srv:/ rw,vers=3,nolock,local_lock=all", False, id="nfs3-nolock"),
        pytest.param("nfs srv:/ rw,vers=3,local_lock=flock", False, id="nfs3-local-flock"),
        pytest.param("ext4 /dev/sda1 rw", True, id="local"),
        pytest.param("fuse.sshfs host: rw", False, id="unknown"),
    ],
)
def test_flock_is_used_where_it_holds_across_nodes(mount: str, expected: bool) -> None:
    assert mount_has_flock(f"36 35 98:0 / /fsx rw,noatime master:1 - {mount}\n") is expected


def test_an_open_folder_names_its_mount(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        kind = subprocess.run(
            ["stat", "--file-system", "--format=%T", tmp_path], capture_output=True, text=True, check=True
        )
        local = kind.stdout.strip() in ("ext2/ext3", "tmpfs", "xfs", "btrfs", "overlayfs", "zfs")
        assert flock_holds(fd) is local
    finally:
        os.close(fd)


@given(st.lists(st.from_regex(r"lock\.?[0-9a]{0,3}", fullmatch=True)))
def test_only_plain_numbers_are_generations(names: list[str]) -> None:
    found = generations(names, "lock")
    assert {f"lock.{number}" for number in found} <= set(names)
    assert all(number > 0 for number in found)


@given(st.binary(max_size=200))
def test_a_lease_that_makes_no_sense_has_no_owner(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("locks")
    folder.chmod(0o755)
    (folder / "lock.3").write_bytes(content)
    lock = try_hold(f"{folder}/lock")
    assert lock is not None
    lock.check()
    lock.release()
    assert (folder / "lock.4").exists()
