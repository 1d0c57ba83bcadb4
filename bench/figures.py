"""A figure: what was measured, against which floor, and the limit it should keep."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """One line of the bench.

    A figure with a floor is judged by its ratio to it, one without by its value; the limit is of the same kind.
    """

    name: str
    value: float
    unit: str
    floor: float | None
    ratio: float | None
    limit: float
    ok: bool

    @classmethod
    def against_floor(cls, name: str, value: float, floor: float, unit: str, limit: float) -> Figure:
        """Judge by how many times the floor it takes."""
        return cls(name, value, unit, floor, value / floor, limit, value / floor <= limit)

    @classmethod
    def absolute(cls, name: str, value: float, unit: str, limit: float) -> Figure:
        """Judge by the value itself: a count, or a time that has no floor."""
        return cls(name, value, unit, None, None, limit, value <= limit)


def show(figures: Iterable[Figure]) -> None:
    """Print the table."""
    table = Table("figure", box=None, pad_edge=False)
    for column in ("value", "floor", "ratio", "limit", ""):
        table.add_column(column, justify="right")
    for figure in figures:
        unit = f" {figure.unit}" if figure.unit else ""
        table.add_row(
            figure.name,
            f"{figure.value:.3g}{unit}",
            "" if figure.floor is None else f"{figure.floor:.3g}{unit}",
            "" if figure.ratio is None else f"{figure.ratio:.2f} x",
            f"{figure.limit:g} x" if figure.ratio is not None else f"{figure.limit:g}{unit}",
            "ok" if figure.ok else "OVER",
        )
    Console().print(table)


def write(figures: Iterable[Figure], path: Path) -> None:
    """Write the figures for programs, as a list of objects."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(figure) for figure in figures], indent=1) + "\n")
