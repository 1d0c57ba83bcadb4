"""A picture of bus bandwidth by message size, drawn by matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ..pictures import new_figure

if TYPE_CHECKING:
    from collections.abc import Sequence


class Line(NamedTuple):
    """One run's figures."""

    label: str
    busbw: dict[int, float]
    """In GB/s, by size in bytes."""

    is_main: bool = True
    """Whether it is what the picture is about; the others are drawn thin, behind it."""


def draw(lines: Sequence[Line], title: str, path: str) -> None:
    """Draw runs, one line each, to a PNG or SVG file.

    Raises:
        SlurmFsxError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    figure = new_figure(9, 5)
    axes = figure.subplots()
    for line in sorted(lines, key=lambda each: each.is_main):
        sizes = sorted(size for size in line.busbw if size > 0)
        style: dict[str, Any] = (
            {"linewidth": 2, "marker": "o", "markersize": 4} if line.is_main else {"linewidth": 1, "alpha": 0.5}
        )
        axes.plot(sizes, [line.busbw[size] for size in sizes], label=line.label, **style)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda size, _: short_size(int(size)))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("message size")
    axes.set_ylabel("bus bandwidth in GB/s")
    axes.set_title(title)
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.savefig(path)


def short_size(size_bytes: int) -> str:
    """Give a size as nccl-tests' options have it: 8, 4K, 128M."""
    size: float = size_bytes
    for unit in ("", "K", "M"):
        if size < 1024:
            return f"{size:g}{unit}"
        size /= 1024
    return f"{size:g}G"
