from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slurm_fsx_tools.counters import BUCKETS_S, FILE, MISSES, NOTHING, count, lock, read_counts, read_misses
from slurm_fsx_tools.deadline import Limit
from slurm_fsx_tools.errors import DeadlineExceeded


def test_nothing_was_counted_before_the_first_run(tmp_path: Path) -> None:
    assert read_counts(str(tmp_path)) == {}
    assert read_misses(str(tmp_path)) == 0


def test_runs_are_counted_by_act_time_and_outcome(tmp_path: Path) -> None:
    for duration_s, failed in ((0.025, False), (0.0251, True), (31.0, True)):
        count(str(tmp_path), "prolog", duration_s, failed)
    count(str(tmp_path), "epilog", 0.0, False)
    prolog, epilog = read_counts(str(tmp_path)).values()
    assert (prolog.total_us, prolog.failed_open) == (31_050_100, 2)
    assert prolog.buckets == (1, 1, *(0,) * (len(BUCKETS_S) - 2), 1)
    assert epilog.buckets == (1, *(0,) * len(BUCKETS_S))


COUNTS = """
import sys
from slurm_fsx_tools import counters
for _ in range(50):
    counters.count(sys.argv[1], "prolog", 0.01, True)
"""


def test_no_count_is_lost_between_processes(tmp_path: Path) -> None:
    several = [subprocess.Popen([sys.executable, "-c", COUNTS, str(tmp_path)]) for _ in range(8)]
    assert [process.wait() for process in several] == [0] * 8
    assert read_counts(str(tmp_path))["prolog"].failed_open == 400


def test_whenever_a_process_is_killed_the_counts_stay_whole(tmp_path: Path) -> None:
    before = 0
    for round_ in range(20):
        process = subprocess.Popen([sys.executable, "-c", COUNTS.replace("range(50)", "range(10**6)"), str(tmp_path)])
        while read_counts(str(tmp_path)).get("prolog", NOTHING).failed_open == before:
            assert process.poll() is None
            time.sleep(0.0007 * round_)
        process.send_signal(signal.SIGKILL)
        process.wait()
        tally = read_counts(str(tmp_path))["prolog"]
        assert tally.failed_open == sum(tally.buckets) > before
        before = tally.failed_open


@pytest.mark.parametrize("garbage", [b"", b"{", b"[]", b'{"prolog": 1}', b'{"prolog": [1, 2, [3]]}', b"\xff" * 5000])
def test_after_garbage_counting_begins_anew(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / FILE).write_bytes(garbage)
    count(str(tmp_path), "prolog", 0.01, False)
    assert read_counts(str(tmp_path)) == {"prolog": NOTHING.add(0.01, False)}


def test_a_time_below_zero_takes_nothing_away() -> None:
    assert NOTHING.add(-5.0, False).total_us == 0


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / FILE).symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic link"):
        count(str(tmp_path), "prolog", 0.01, False)
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_lock_that_somebody_keeps_is_waited_for_until_he_dies_or_time_is_up(tmp_path: Path) -> None:
    holder = "import os, sys; from slurm_fsx_tools.counters import lock; lock(sys.argv[1]); print(flush=True); input()"
    path = str(tmp_path / "lock")
    with subprocess.Popen(
        [sys.executable, "-c", holder, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(BlockingIOError):
            lock(path, wait=False)
        with pytest.raises(DeadlineExceeded), Limit(0.05, "counting"):
            lock(path)
        process.kill()
        os.close(lock(path))


def test_nobody_else_can_lock_what_every_job_waits_for(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.touch(0o644)
    for path in (old, tmp_path / "new"):
        os.close(lock(str(path)))
        assert path.stat().st_mode & 0o777 == 0o600


def test_misses_are_the_bytes_that_the_spank_plugin_has_added(tmp_path: Path) -> None:
    (tmp_path / MISSES).write_bytes(b"...")
    assert read_misses(str(tmp_path)) == 3
