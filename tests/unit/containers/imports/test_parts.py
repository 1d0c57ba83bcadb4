"""The parts of an import that need no registry: programs, folders, slots, exit codes, lines."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path

import pytest

from slurm_fsx_tools.cli.containers.progress import Lines
from slurm_fsx_tools.containers.imports.budget import RegistryBudget
from slurm_fsx_tools.containers.imports.folders import make_folders, scratch_folder
from slurm_fsx_tools.containers.imports.options import Imported
from slurm_fsx_tools.containers.imports.queue import Outcome, exit_code
from slurm_fsx_tools.containers.imports.state import Progress
from slurm_fsx_tools.containers.names import ImageName
from slurm_fsx_tools.containers.store import Store
from slurm_fsx_tools.errors import ImportFailed, Interrupted, NoSpace
from slurm_fsx_tools.files import publish
from slurm_fsx_tools.programs import ProgramFailed, Programs, StopSign

NAME = ImageName.parse("lab.example/x:1")
CAME = Outcome(NAME, Imported("/x", "", "", 1, True), None)
FAILED = Outcome(NAME, None, ImportFailed("no"))


@pytest.fixture
def programs() -> Programs:
    return Programs({"PATH": os.environ["PATH"]}, StopSign(), 1.0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "containers").mkdir()
    store = Store(str(tmp_path / "containers"))
    make_folders(store)
    return store


class TestPrograms:
    """How programs are run."""

    def test_each_line_is_told(self, programs: Programs, tmp_path: Path) -> None:
        lines: list[str] = []
        programs.run(["printf", "one\\rtwo\\n\\n\\033[2Jthree\\n"], cwd=str(tmp_path), on_line=lines.append)
        assert lines == ["one", "two", "[2Jthree"]

    def test_the_last_line_tells_why_it_failed(self, programs: Programs, tmp_path: Path) -> None:
        with pytest.raises(ProgramFailed, match="sh ended with 3: the reason"):
            programs.run(["sh", "-c", "echo other; echo the reason >&2; exit 3"], cwd=str(tmp_path))

    def test_a_full_disk_is_an_error_of_its_own(self, programs: Programs, tmp_path: Path) -> None:
        with pytest.raises(NoSpace, match="sh found no room"):
            programs.run(["sh", "-c", "echo write: No space left on device; exit 1"], cwd=str(tmp_path))

    def test_one_in_which_nothing_moves_is_ended_with_its_children(self, programs: Programs, tmp_path: Path) -> None:
        with pytest.raises(ProgramFailed, match="neither read nor wrote"):
            programs.run(["sh", "-c", "sleep 1000 & sleep 1000"], cwd=str(tmp_path))
        end = time.monotonic() + 5
        while (left := sleepers(tmp_path)) and time.monotonic() < end:
            time.sleep(0.05)
        assert left == []

    def test_one_that_writes_slowly_is_not(self, programs: Programs, tmp_path: Path) -> None:
        programs.run(["sh", "-c", "for i in 1 2 3 4 5 6; do echo x >>f; sleep 0.4; done"], cwd=str(tmp_path))
        assert (tmp_path / "f").read_text() == "x\n" * 6

    def test_the_stop_sign_ends_it(self, programs: Programs, tmp_path: Path) -> None:
        threading.Timer(0.3, programs.stop.set).start()
        with pytest.raises(Interrupted):
            programs._replace(stall_s=60).run(["sleep", "1000"], cwd=str(tmp_path))
        assert sleepers(tmp_path) == []


def sleepers(folder: Path) -> list[str]:
    found = []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and os.readlink(f"/proc/{entry}/cwd") == str(folder):
                found.append(entry)
        except OSError:
            continue
    return found


class TestScratchFolder:
    """Local folders of imports."""

    def test_what_a_dead_owner_left_is_removed_and_a_living_ones_is_not(self, tmp_path: Path) -> None:
        dead, alive, other = (tmp_path / name for name in ("slurm-fsx-import.1", "slurm-fsx-import.2", "precious"))
        for folder in (dead, alive, other):
            (folder / "inner").mkdir(parents=True)
        fd = os.open(alive, os.O_RDONLY)
        fcntl.flock(fd, fcntl.LOCK_EX)
        with scratch_folder(str(tmp_path)) as mine:
            assert os.stat(mine).st_mode & 0o7777 == 0o700
            assert sorted(os.listdir(tmp_path)) == sorted(["precious", "slurm-fsx-import.2", os.path.basename(mine)])
        assert sorted(os.listdir(tmp_path)) == ["precious", "slurm-fsx-import.2"]
        os.close(fd)

    def test_a_planted_link_is_not_followed(self, tmp_path: Path) -> None:
        victim = tmp_path / "victim"
        (victim / "inner").mkdir(parents=True)
        (tmp_path / "slurm-fsx-import.1").symlink_to(victim)
        with scratch_folder(str(tmp_path)):
            pass
        assert (victim / "inner").exists()


class TestBudget:
    """Slots and pauses of a registry."""

    def budget(self, store: Store, slots: int) -> RegistryBudget:
        return RegistryBudget(store, "lab.example:5000", slots, StopSign())

    def test_no_more_than_its_slots_are_taken_at_a_time(self, store: Store) -> None:
        now = most = 0
        guard = threading.Lock()

        def take() -> None:
            nonlocal now, most
            with self.budget(store, 2).slot(lambda _: None):
                with guard:
                    now += 1
                    most = max(most, now)
                time.sleep(0.2)
                with guard:
                    now -= 1

        threads = [threading.Thread(target=take) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most == 2

    def test_a_pause_is_kept_by_others_and_never_shortened(self, store: Store) -> None:
        first, second = (self.budget(store, 1)._replace(clock=lambda: 1000.0) for _ in range(2))
        first.pause(50)
        second.pause(20)
        assert second.paused_until_s() == 1050
        assert second._replace(clock=lambda: 1060.0).paused_until_s() < 1060

    def test_a_pause_by_a_wrong_clock_ends_within_the_hour(self, store: Store) -> None:
        self.budget(store, 1)._replace(clock=lambda: 1e9).pause(50)
        assert self.budget(store, 1)._replace(clock=lambda: 1000.0).paused_until_s() == 1000 + 3600

    def test_the_stop_sign_ends_waiting(self, store: Store) -> None:
        budget = self.budget(store, 1)
        budget.pause(60)
        threading.Timer(0.2, budget.stop.set).start()
        with pytest.raises(Interrupted), budget.slot(lambda _: None):
            pass


@pytest.mark.parametrize(
    ("outcomes", "mistakes", "code"),
    [
        ([CAME, CAME], 0, 0),
        ([CAME, FAILED], 0, 3),
        ([CAME], 1, 3),
        ([FAILED], 0, 1),
        ([], 1, 1),
        ([CAME, Outcome(NAME, None, Interrupted("x"))], 0, 130),
    ],
    ids=["all", "some", "bad-line", "none", "only-bad-lines", "interrupted"],
)
def test_the_exit_code_says_how_many_came(outcomes: list[Outcome], mistakes: int, code: int) -> None:
    assert exit_code(outcomes, mistakes) == code


def test_without_a_terminal_a_line_comes_for_each_phase_and_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    lines = Lines(lambda: now[0])
    for second in range(25):
        now[0] = float(second)
        lines.tell(Progress("lab.example_x-1.sqsh", "downloading", second << 20, 100 << 20))
    lines.tell(Progress("lab.example_x-1.sqsh", "waiting", text="no luck: trying again"))
    lines.tell(Progress("lab.example_x-1.sqsh", "done", 5 << 20, 5 << 20))
    assert capsys.readouterr().err.splitlines() == [
        "lab.example/x:1: downloading  100 MiB",
        "lab.example/x:1: downloading  10 MiB of 100 MiB (1 MiB/s)",
        "lab.example/x:1: downloading  20 MiB of 100 MiB (1 MiB/s)",
        "lab.example/x:1: waiting  no luck: trying again",
        "lab.example/x:1: done  5 MiB",
    ]


def test_publishing_replaces_a_link_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "name").symlink_to("victim")
    (tmp_path / "staged").write_text("new")
    publish(str(tmp_path / "staged"), str(tmp_path / "name"))
    assert (tmp_path / "name").read_text() == "new"
    assert not (tmp_path / "name").is_symlink()
    assert (tmp_path / "victim").read_text() == "precious"
    assert not (tmp_path / "staged").exists()
