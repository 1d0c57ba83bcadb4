"""What nccl-tests print: bandwidth by message size, and what went wrong.

Source: NVIDIA/nccl-tests, doc/PERFORMANCE.md (what the columns mean) and src/common.cu (how they are printed).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ..errors import SlurmFsxError
from ..node.journal import printable

_DEVICE = re.compile(r"#\s+Rank\s+(\d+)\s.*\bon\s+(\S+)\s+device\s+(\d+)\s+\[[^\]]*\]\s*(.*)")
_AVERAGE = re.compile(r"#\s*Avg bus bandwidth\s*:\s*(\S+)")
_BOUNDS = re.compile(r"#\s*Out of bounds values\s*:\s*(\d+)\s+(\S+)")
_TROUBLE = re.compile(
    r"NCCL WARN|Test (?:NCCL |CUDA )?failure|CUDA error|NCCL failure|Segmentation fault|error while loading"
)
_COLUMNS = 13
"""size count type redop root, then time algbw busbw #wrong out of place, and the same in place."""

_TROUBLE_LIMIT = 20


class BandwidthTestFailed(SlurmFsxError):
    """A run of nccl-tests that measured nothing."""


class Speed(NamedTuple):
    """One size's figures, out of place or in place."""

    time_us: float
    algbw: float
    """In GB/s: 10^9 bytes a second."""

    busbw: float
    """In GB/s; comparable with the hardware's speed whatever the number of ranks."""

    wrong: int | None
    """How many values were wrong; None where that was not looked at."""


class Row(NamedTuple):
    """One size."""

    size_bytes: int
    out_of_place: Speed
    in_place: Speed

    @property
    def busbw(self) -> float:
        """The better of both, in GB/s."""
        return max(self.out_of_place.busbw, self.in_place.busbw)


class Device(NamedTuple):
    """One rank's GPU."""

    rank: int
    host: str
    gpu: int
    name: str


class Report(NamedTuple):
    """All that one run printed."""

    rows: list[Row]
    devices: list[Device]
    average: float | None
    """The average bus bandwidth that it printed itself, in GB/s."""

    wrong: int
    """How many sizes had wrong values, as it says at its end or in its rows."""

    trouble: list[str]
    """Lines of NCCL's and of the test's own that say what went wrong, each once."""

    @property
    def top(self) -> float:
        """The bus bandwidth of the largest size, in GB/s; 0 where nothing was measured."""
        return self.rows[-1].busbw if self.rows else 0.0


def parse(text: str) -> Report:
    """Read what a test printed. Lines of other programs amid it are passed over.

    A test built without MPI runs once for each task, and prints a table each: then ranks and sizes come several times.
    """
    rows: list[Row] = []
    devices: list[Device] = []
    trouble: dict[str, None] = {}
    average: float | None = None
    wrong = 0
    for line in text.splitlines():
        line = line.strip()
        if _TROUBLE.search(line):
            trouble[printable(line)[:500]] = None
        elif line.startswith("#"):
            device = _DEVICE.match(line)
            if device:
                devices.append(Device(int(device[1]), device[2], int(device[3]), printable(device[4])))
            found = _AVERAGE.match(line)
            if found:
                average = _number(found[1])
            bounds = _BOUNDS.match(line)
            if bounds and bounds[2] != "OK":
                wrong = max(wrong, int(bounds[1]))
        else:
            row = _row(line.split())
            if row:
                rows.append(row)
    counted = sum(bool(row.out_of_place.wrong or row.in_place.wrong) for row in rows)
    return Report(rows, devices, average, max(wrong, counted), list(trouble)[:_TROUBLE_LIMIT])


def check(report: Report, ranks: int, output: str) -> None:
    """See that a run measured what was asked for.

    Raises:
        BandwidthTestFailed: it did not; the message has the reason that it gave, where it gave one.
    """
    alone = sum(device.rank == 0 for device in report.devices)
    if alone > 1 or (report.devices and len({device.rank for device in report.devices}) < ranks):
        raise BandwidthTestFailed(
            f"{max(alone, 1)} tests ran side by side instead of one over {ranks} GPUs",
            hint="name the MPI that nccl-tests were built with, e.g. --mpi pmix; without MPI they do not do",
        )
    if not report.rows:
        lines = [line for line in output.splitlines() if line.strip()]
        said = report.trouble[0] if report.trouble else printable(lines[-1].strip())[:500] if lines else "nothing"
        raise BandwidthTestFailed(f"nothing was measured: {said}", hint="run it with NCCL_DEBUG=INFO to see more")


def _row(words: list[str]) -> Row | None:
    if len(words) != _COLUMNS or not words[0].isdigit() or not words[1].isdigit():
        return None
    try:
        return Row(int(words[0]), _speed(words[5:9]), _speed(words[9:13]))
    except ValueError:
        return None


def _speed(words: list[str]) -> Speed:
    # Old releases print the largest error there (0e+00), later ones how many values are wrong, or N/A.
    wrong = int(words[3]) if words[3].isdigit() else None
    time_us, algbw, busbw = (_number(word) for word in words[:3])
    return Speed(time_us, algbw, busbw, wrong)


def _number(word: str) -> float:
    # Where a size was not run in place, it says N/A.
    return 0.0 if word == "N/A" else float(word)
