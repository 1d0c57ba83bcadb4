from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.calls import count_below
from bench.figures import Figure, write


def test_a_figure_with_a_floor_is_judged_by_its_ratio() -> None:
    figure = Figure.against_floor("prolog", 30.0, 10.0, "ms", 4)
    assert (figure.ratio, figure.ok) == (3.0, True)
    assert not Figure.against_floor("prolog", 41.0, 10.0, "ms", 4).ok


def test_a_figure_without_a_floor_is_judged_by_its_value() -> None:
    assert Figure.absolute("calls", 5, "", 5).ok
    assert not Figure.absolute("calls", 6, "", 5).ok


def test_figures_are_written_as_documented(tmp_path: Path) -> None:
    write(
        [Figure.against_floor("prolog", 30.0, 10.0, "ms", 4), Figure.absolute("calls", 4, "", 5)], tmp_path / "b/f.json"
    )
    assert json.loads((tmp_path / "b/f.json").read_text()) == [
        {"name": "prolog", "value": 30.0, "unit": "ms", "floor": 10.0, "ratio": 3.0, "limit": 4, "ok": True},
        {"name": "calls", "value": 4, "unit": "", "floor": None, "ratio": None, "limit": 5, "ok": True},
    ]


def test_calls_below_a_folder_are_counted_however_the_path_is_given() -> None:
    output = """\
execve("/etc/slurm/prolog.d/50-slurm-fsx", ["/fsx/argument"], 0x7ffc /* 9 vars */) = 0
[pid 7] newfstatat(AT_FDCWD</root>, "/fsx/nccl", {st_mode=S_IFDIR|0755}, AT_SYMLINK_NOFOLLOW) = 0
[pid 7] openat(AT_FDCWD</root>, "/fsx/nccl/.nccl_version", O_RDONLY <unfinished ...>
[pid 7] <... openat resumed>) = 3</fsx/nccl/.nccl_version>
[pid 7] newfstatat(3</fsx/nccl/.nccl_version>, "", {st_mode=S_IFREG|0644}, AT_EMPTY_PATH) = 0
[pid 7] openat(4</fsx/monitoring>, "targets", O_RDONLY) = 5</fsx/monitoring/targets>
[pid 7] stat("/fsx", {st_mode=S_IFDIR|0755}) = 0
[pid 7] openat(AT_FDCWD</root>, "/fsx-other/file", O_RDONLY) = -1 ENOENT (No such file or directory)
"""
    assert count_below(output, "/fsx") == 4


def test_a_trace_of_nothing_does_not_pass_for_no_calls() -> None:
    with pytest.raises(ValueError, match="no call at all"):
        count_below("strace: not permitted", "/fsx")
