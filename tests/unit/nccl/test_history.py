"""Earlier bandwidth tests: kept, compared, drawn."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from slurm_fsx_tools.errors import SlurmFsxError
from slurm_fsx_tools.nccl.history import Run, append, compare, compare_nodes, read
from slurm_fsx_tools.nccl.plot import Line, draw, short_size
from slurm_fsx_tools.pictures import check_kind


def run(busbw: float, *nodes: str, gpus: int = 8) -> Run:
    return Run(1e9, "2.28.7-1", list(nodes), gpus, {"8": 0.1, "134217728": busbw, "4096": 1.0})


def test_runs_are_kept_in_order_and_lines_that_are_none_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    assert read(str(path)) == []
    append(str(path), run(90, "n1", "n2"))
    with path.open("a") as file:
        file.write('half a li\n[]\n{"format": 2}\n{"format": 1, "nodes": []}\n')
    append(str(path), run(91, "n2", "n3"))
    assert read(str(path)) == [run(90, "n1", "n2"), run(91, "n2", "n3")]


def test_a_link_in_the_histories_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        append(str(tmp_path / "history.jsonl"), run(90, "n1"))
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("earlier", "is_slow"),
    [
        pytest.param([100, 90, 95], True, id="slower than the median"),
        pytest.param([84, 200, 84], False, id="one that was fast is no measure"),
        pytest.param([100, 100], False, id="too few to know"),
        pytest.param([], False, id="the first"),
    ],
)
def test_a_run_is_compared_with_the_median_of_its_shape(earlier: list[float], is_slow: bool) -> None:
    others = [run(500, "n1", "n2", "n3"), run(500, "n1", "n2", gpus=4)] * 3
    comparison = compare(run(80, "n1", "n2"), [*others, *(run(busbw, "n3", "n4") for busbw in earlier)])
    assert comparison.is_slow is is_slow
    assert comparison.runs == len(earlier)


def test_the_node_that_slows_all_its_runs_stands_out() -> None:
    runs = [run(60 if "n3" in pair else 90, *pair) for pair in (("n1", "n2"), ("n1", "n3"), ("n2", "n4"), ("n3", "n4"))]
    runs += [run(91, "n1", "n4"), run(20, "n3"), run(200, "n1", "n2", "n3")]
    found = compare_nodes(runs)
    assert [each.name for each in found if each.is_slow] == ["n3"]
    assert found[0][:3] == ("n3", 60, 90)


def test_with_one_node_alone_there_is_nothing_to_compare() -> None:
    assert compare_nodes([run(20, "n1")]) == []
    assert compare_nodes([run(20, "n1", "n2")]) == []


@pytest.mark.parametrize(("name", "begin"), [("a.png", b"\x89PNG\r\n"), ("a.svg", b"<?xml")])
def test_runs_are_drawn(tmp_path: Path, name: str, begin: bytes) -> None:
    path = tmp_path / name
    check_kind(str(path))
    sizes = {8 << power: float(power) for power in range(25)}
    draw([Line("now", sizes), Line("before", dict.fromkeys(sizes, 1.0), is_main=False)], "all_reduce", str(path))
    assert path.read_bytes().startswith(begin)
    if name.endswith("svg"):
        # Texts are outlines there, with the text itself in a comment.
        assert all(f"<!-- {text} -->" in path.read_text() for text in ("now", "before", "all_reduce"))


def test_a_picture_that_cannot_be_drawn_is_refused_before_the_test(tmp_path: Path) -> None:
    with pytest.raises(SlurmFsxError, match="is no name of a picture"):
        check_kind(str(tmp_path / "a.jpeg"))
    with pytest.raises(SlurmFsxError, match="cannot be written to"):
        check_kind(str(tmp_path / "missing/a.png"))


def test_without_matplotlib_the_admin_is_told_before_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # what Python takes for a module that is not there
    with pytest.raises(SlurmFsxError, match=r"matplotlib, which is not installed; run: pip install .*\[plot\]"):
        check_kind(str(tmp_path / "a.png"))


@pytest.mark.parametrize(
    ("size", "text"), [(8, "8"), (1024, "1K"), (1536, "1.5K"), (128 << 20, "128M"), (16 << 30, "16G"), (0, "0")]
)
def test_sizes_are_written_as_the_tests_options_have_them(size: int, text: str) -> None:
    assert short_size(size) == text
