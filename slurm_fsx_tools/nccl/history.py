"""Earlier bandwidth tests, a JSON object a line in ``FSX/logs/nccl/history.jsonl``, and what is slower than it was."""

from __future__ import annotations

import json
import os
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from ..node_sets import fold

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FORMAT = 1
SLOW = 0.9
"""Below this part of the median of what was measured before, a run or a node counts as slow."""

ENOUGH = 3
"""How many earlier runs make a median worth comparing with."""

_READ_LIMIT_BYTES = 16 << 20
"""Of a longer file the end is read: some ten thousand runs."""


class Run(NamedTuple):
    """One test over some nodes."""

    when_s: float
    version: str
    nodes: list[str]
    gpus_per_node: int
    busbw: dict[str, float]
    """In GB/s, by size in bytes (as text, as JSON has it)."""

    @property
    def shape(self) -> tuple[int, int]:
        """Runs with the same shape can be compared: how many nodes, and GPUs of each."""
        return len(self.nodes), self.gpus_per_node

    @property
    def top(self) -> float:
        """The bus bandwidth of the largest size, in GB/s."""
        return self.busbw[max(self.busbw, key=int)] if self.busbw else 0.0


class Comparison(NamedTuple):
    """A run or a node beside what was measured before."""

    name: str
    """The node set, or the node."""

    busbw: float
    """In GB/s, at the largest size; the median of its runs, for a node."""

    usual: float
    """The median of the others with the same shape, in GB/s."""

    runs: int
    """How many runs the usual figure is made of."""

    @property
    def is_slow(self) -> bool:
        """Whether it is clearly below the usual, where enough is known."""
        return self.runs >= ENOUGH and self.busbw < SLOW * self.usual


def append(path: str, run: Run) -> None:
    """Add a run: one write, so that two nodes that add at the same time do not mix.

    Raises:
        OSError: the folder is missing, or not this user's to write to.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(path, flags, 0o644)
    try:
        os.write(fd, json.dumps({"format": FORMAT, **run._asdict()}).encode() + b"\n")
    finally:
        os.close(fd)


def read(path: str) -> list[Run]:
    """Give the earlier runs, oldest first; lines that are none are passed over, a missing file has none.

    Raises:
        OSError: it cannot be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return []
    with os.fdopen(fd, "rb") as file:
        file.seek(max(0, os.fstat(fd).st_size - _READ_LIMIT_BYTES))
        lines = file.read(_READ_LIMIT_BYTES).splitlines()
    return [run for line in lines for run in _parse(line)]


def compare(run: Run, earlier: Iterable[Run]) -> Comparison:
    """Put a run beside the earlier ones of its shape."""
    before = [other.top for other in earlier if other.shape == run.shape]
    return Comparison(fold(run.nodes), run.top, median(before) if before else 0.0, len(before))


def compare_nodes(runs: Sequence[Run]) -> list[Comparison]:
    """Put each node's runs over several nodes beside those that it had no part in, the slowest first.

    A slow node slows every run that it takes part in, and no other: with few nodes a run, it stands out. The shape is
    that of the most runs.
    """
    shapes = [run.shape for run in runs if len(run.nodes) > 1]
    if not shapes:
        return []
    shape = max(sorted(set(shapes)), key=shapes.count)
    alike = [run for run in runs if run.shape == shape]
    found = []
    for node in sorted({node for run in alike for node in run.nodes}):
        own = [run.top for run in alike if node in run.nodes]
        others = [run.top for run in alike if node not in run.nodes]
        if others:
            found.append(Comparison(node, median(own), median(others), len(others)))
    return sorted(found, key=lambda each: each.busbw / each.usual if each.usual else 1.0)


def _parse(line: bytes) -> list[Run]:
    try:
        document: dict[str, Any] = json.loads(line)
        if document.pop("format") != FORMAT:
            return []
        run = Run(**document)
        busbw = {str(int(size)): float(value) for size, value in run.busbw.items()}
        return [run._replace(busbw=busbw, nodes=[str(node) for node in run.nodes], when_s=float(run.when_s))]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
