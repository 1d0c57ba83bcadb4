"""Pictures of a job."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurm_fsx_tools.monitoring.job_record.history import CPU, GPU, Course
from slurm_fsx_tools.monitoring.job_record.plot import draw_courses


def course(node: str, measure=CPU) -> Course:
    return Course(measure, node, [(1_800_000_000.0 + 60 * step, 10.0 * step) for step in range(5)])


@pytest.mark.parametrize(("name", "begin"), [("a.png", b"\x89PNG\r\n"), ("a.svg", b"<?xml")])
def test_each_measure_has_its_panel_and_each_node_its_line(tmp_path: Path, name: str, begin: bytes) -> None:
    path = tmp_path / name
    draw_courses([course(""), course("n1"), course("n2"), course("", GPU)], "job 7 a $x^2$ $", str(path))
    assert path.read_bytes().startswith(begin)
    if name.endswith("svg"):
        # Texts are outlines there, with the text itself in a comment.
        text = path.read_text()
        assert all(f"<!-- {word} -->" in text for word in ("n1", "n2", "mean of the nodes", "CPU in %", "GPU in %"))
        assert "<!-- job 7 a $x^2$ $ -->" in text


def test_many_nodes_are_drawn_without_a_name_each(tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    draw_courses([course(""), *(course(f"node{number}") for number in range(40))], "job 7", str(path))
    assert "node1" not in path.read_text()
