from __future__ import annotations

import json
from pathlib import Path

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
