"""Files of metrics that node_exporter's textfile collector reads, in Prometheus' text format 0.0.4.

The collector takes each ``*.prom`` of its folder, and refuses timestamps. Where the help of a metric differs between
two files, or one series stands in both, it drops what it reads second (observed with 1.5.0). So a metric's help stands
in one place of this package, and stays as it is in later releases: the files of jobs that run meanwhile keep the old.
Source: Prometheus, Exposition formats; node_exporter's textfile collector.
"""

from __future__ import annotations

import os

from ..errors import UntrustedFile
from ..files import remove, write_atomically
from ..values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

GAUGE, COUNTER, HISTOGRAM = "gauge", "counter", "histogram"

SUFFIX = ".prom"
"""What node_exporter reads. `write_atomically`'s temporary names start with a dot and end with digits."""

HEALTH = "slurm_fsx_health"
"""The file of `health_metrics`."""

CUT = "\N{HORIZONTAL ELLIPSIS}"
"""Stands at the end of a label's value that was longer."""

HARMLESS = "\N{REPLACEMENT CHARACTER}"
"""Stands for what is no text: a control character, or a byte that is no UTF-8."""


class Sample(NamedTuple):
    """One value of a metric."""

    labels: Mapping[str, str]
    """Names are ours; values may be anybody's text: they are escaped and cut when they are written."""

    value: float
    suffix: str = ""
    """``_bucket``, ``_sum`` or ``_count`` of a histogram."""


class Family(NamedTuple):
    """A metric with its samples; without samples nothing is written of it."""

    name: str
    kind: str
    """GAUGE, COUNTER or HISTOGRAM."""

    help: str
    samples: Iterable[Sample]


def format_metrics(families: Iterable[Family], label_limit: int) -> bytes:
    """Give a file's content.

    Args:
        families: Each metric once.
        label_limit: Characters of a label's value, ``monitoring.label_limit``; what is longer ends with CUT.
    """
    lines = []
    for family in families:
        samples = [
            f"{family.name}{sample.suffix}{_format_labels(sample.labels, label_limit)} {_format_value(sample.value)}\n"
            for sample in family.samples
        ]
        if samples:
            help_text = family.help.replace("\\", "\\\\").replace("\n", "\\n")
            lines += [f"# HELP {family.name} {help_text}\n# TYPE {family.name} {family.kind}\n", *samples]
    return "".join(lines).encode()


def write_metrics(folder: str, name: str, families: Iterable[Family], label_limit: int) -> None:
    """Replace a file of metrics, so that node_exporter sees the old one or the new one; make the folder if need be.

    Args:
        folder: ``monitoring.textfile_dir``.
        name: The file's, without ``.prom``.
        families: Each metric once.
        label_limit: As for `format_metrics`.

    Raises:
        OSError: the folder cannot be made, or the file not written.
        UntrustedFile: something else has the folder's name, e.g. a link.
    """
    data = format_metrics(families, label_limit)
    try:
        folder_fd = open_metrics_folder(folder)
    except FileNotFoundError:
        os.makedirs(folder, 0o755, exist_ok=True)
        folder_fd = open_metrics_folder(folder)
    try:
        write_atomically(name + SUFFIX, data, dir_fd=folder_fd)
    except OSError as error:
        error.filename = f"{folder}/{name}{SUFFIX}"  # the temporary file's name alone tells nobody where
        raise
    finally:
        os.close(folder_fd)


def remove_metrics(folder: str, name: str) -> bool:
    """Remove a file of metrics; say whether it was there.

    Raises:
        OSError: it cannot be removed.
        UntrustedFile: as for `write_metrics`.
    """
    try:
        folder_fd = open_metrics_folder(folder)
    except FileNotFoundError:
        return False
    try:
        return remove(name + SUFFIX, folder_fd)
    finally:
        os.close(folder_fd)


def open_metrics_folder(folder: str) -> int:
    """Open a folder of metrics; a link to one is refused, since whoever made it chose where root writes.

    A site may let others write there, e.g. a group of exporters: files are made and removed relative to this handle,
    under names of our own and never through a link, and none is read.

    Raises:
        OSError: it is missing, or cannot be opened.
        UntrustedFile: it is a link, or no folder.
    """
    try:
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except NotADirectoryError:  # what O_NOFOLLOW makes of a link to a folder, too
        raise UntrustedFile(
            f"{folder} is no folder of its own", hint="write the folder itself: monitoring.textfile_dir"
        ) from None


def _format_labels(labels: Mapping[str, str], limit: int) -> str:
    if not labels:
        return ""
    return "{" + ",".join([f'{name}="{_escape(value, limit)}"' for name, value in labels.items()]) + "}"


def _escape(text: str, limit: int) -> str:
    if len(text) > limit:
        text = text[: limit - 1] + CUT
    if not text.isprintable():
        text = "".join([char if char.isprintable() or char == "\n" else HARMLESS for char in text])
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _format_value(value: float) -> str:
    if isinstance(value, int):
        return str(int(value))  # True is 1
    text = repr(value)
    return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(text, text)
