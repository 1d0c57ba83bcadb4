"""Values as a line of a terminal."""

from __future__ import annotations

from slurm_fsx_tools.monitoring.job_record.sparkline import BARS, PLAIN_BARS, draw_line


def test_values_fill_columns_by_their_size() -> None:
    points = [(float(place), place * 100 / 7) for place in range(8)]
    assert draw_line(points, 0, 8, 8, 100) == BARS


def test_a_time_without_values_stays_blank() -> None:
    assert draw_line([(0.0, 100.0), (9.0, 0.0)], 0, 10, 10, 100) == "█        ▁"
    assert draw_line([], 0, 10, 10, 100) == ""


def test_columns_share_the_time_and_give_means() -> None:
    assert draw_line([(0.0, 0.0), (1.0, 100.0), (3.0, 100.0)], 0, 4, 2, 100) == "▅█"


def test_without_a_top_the_greatest_value_fills_a_column() -> None:
    assert draw_line([(0.0, 2.0), (1.0, 4.0)], 0, 2, 2, 0) == "▅█"
    assert draw_line([(0.0, 0.0)], 0, 1, 1, 0) == "▁"


def test_what_lies_beside_the_scale_is_drawn_at_its_end() -> None:
    assert draw_line([(-5.0, -3.0), (99.0, 1000.0)], 0, 10, 2, 100) == "▁█"
    assert draw_line([(5.0, 50.0)], 5, 5, 3, 100) == "▅"


def test_a_terminal_that_knows_ascii_only_has_bars_too() -> None:
    assert draw_line([(0.0, 0.0), (1.0, 100.0)], 0, 2, 2, 100, PLAIN_BARS) == "_#"
