"""A course of values as one line of a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

BARS = "▁▂▃▄▅▆▇█"
PLAIN_BARS = "_.-=+*%#"
"""For terminals that know ASCII only."""


def draw_line(
    points: Sequence[tuple[float, float]], start_s: float, end_s: float, width: int, top: float, bars: str = BARS
) -> str:
    """Draw values by their times, in columns that share the time from start to end; a blank where there are none.

    Args:
        points: Seconds since 1970, and the value.
        start_s: Where the line begins.
        end_s: Where it ends.
        width: How many columns it may have.
        top: The value that fills a column; 0 for the greatest one there is.
        bars: Characters from empty to full.
    """
    columns: list[list[float]] = [[] for _ in range(max(1, width))]
    span_s = max(end_s - start_s, 1e-9)
    for when, value in points:
        place = int((when - start_s) / span_s * len(columns))
        columns[min(max(place, 0), len(columns) - 1)].append(value)
    full = top or max((value for _, value in points), default=0.0) or 1.0
    return "".join(_bar(sum(values) / len(values) / full, bars) if values else " " for values in columns).rstrip()


def _bar(share: float, bars: str) -> str:
    return bars[min(len(bars) - 1, max(0, int(share * len(bars))))]
