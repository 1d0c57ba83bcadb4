"""Has node_exporter read the folder that jobs' metrics are written to, where its own unit does not."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from ..errors import UntrustedFile
from ..files import open_folder, remove
from .slurm_conf import matching
from .steps import File, Folder, Service, Withheld

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .steps import Step

DEBIAN = "prometheus-node-exporter.service"
UNITS = (DEBIAN, "node_exporter.service", "node-exporter.service")
DEBIAN_FOLDER = "/var/lib/prometheus/node-exporter"
"""What Debian's package reads without being told."""

_OPTION = re.compile(r"--collector\.textfile\.directory[= ]\"?([^\s\"']+)")
_PROGRAM = re.compile(r"[-@:+!|]*\S*/(prometheus-)?node[_-]exporter(\s|$)")
"""The start of a command line that takes one more option at its end. Source: systemd.service(5), ExecStart."""

_METRICS = re.compile(r"\.?slurm_fsx_\w+\.prom(\.|$)")
UNIT_FOLDERS = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
_DEFAULTS = ("/etc/default/", "/etc/sysconfig/")
_DROP_IN = "50-slurm-fsx.conf"


def node_exporter_steps(folder: str, root: str = "/") -> list[Step]:
    """List the steps after which node_exporter reads a folder; none where it does, or is not installed as a service.

    Args:
        folder: ``monitoring.textfile_dir``.
        root: The root folder of the machine.
    """
    below = root.rstrip("/")
    unit, path = find_unit(below)
    if not path:
        return []
    drop_ins = matching(f"/etc/systemd/system/{unit}.d/*.conf", root)
    texts = [_read(f"{below}{each}") for each in (path, *drop_ins) if os.path.basename(each) != _DROP_IN]
    stem = unit.rpartition(".")[0]
    defaults = [_read(f"{below}{place}{stem}") for place in _DEFAULTS]
    said = _OPTION.findall("\n".join(line for text in (*texts, *defaults) for line in _lines(text)))
    reads = said[-1] if said else DEBIAN_FOLDER if unit == DEBIAN else ""
    if reads == folder:
        return []
    if said:
        reason = f"{unit} reads {reads}, and metrics of jobs are written to {folder}"
        return [_withheld(unit, reason, f"set monitoring.textfile_dir to {reads} in the configuration")]
    commands = [
        line.partition("=")[2].strip() for text in texts for line in _lines(text) if line.startswith("ExecStart=")
    ]
    command = next((each for each in reversed(commands) if each), "")
    if not command:
        return []
    if not _PROGRAM.match(command):
        reason = f"{unit} starts node_exporter by a program of its own, and metrics of jobs are written to {folder}"
        return [_withheld(unit, reason, f"add --collector.textfile.directory={folder} there")]
    drop_in = f"/etc/systemd/system/{unit}.d/{_DROP_IN}"
    text = (
        "# Written by slurm-fsx setup node: metrics of jobs are in a folder that the textfile collector reads.\n"
        f"[Service]\nExecStart=\nExecStart={command} --collector.textfile.directory={folder}\n"
    )
    return [
        Folder(os.path.dirname(drop_in), accepts_any=True),
        Folder(os.path.dirname(folder), accepts_any=True),
        Folder(folder, accepts_any=True),
        File(drop_in, text),
        Service(unit, watches=(drop_in,)),
    ]


def _withheld(unit: str, reason: str, hint: str) -> Withheld:
    return Withheld(f"textfiles of {unit}", reason, hint, keeps=False)


def remove_metrics(folder: str, wanted: Callable[[str], bool]) -> None:
    """Remove files of metrics that jobs, imports and passes have left, and half-written ones.

    Args:
        folder: ``monitoring.textfile_dir``; where it is missing, or others write to it, nothing is removed.
        wanted: Says of a file's name, without what makes it half-written, whether it goes.
    """
    try:
        fd = open_folder(folder)
    except (OSError, UntrustedFile):
        return
    try:
        for name in os.listdir(fd):
            if _METRICS.match(name) and wanted(name.lstrip(".")):
                remove(name, fd)
    finally:
        os.close(fd)


def find_unit(below: str = "", units: Sequence[str] = UNITS) -> tuple[str, str]:
    """Give the first unit that is there, node_exporter's unless told, and its file's path; both empty without any."""
    for unit in units:
        for place in UNIT_FOLDERS:
            if os.path.isfile(f"{below}{place}/{unit}"):
                return unit, f"{place}/{unit}"
    return "", ""


def _read(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _lines(text: str) -> list[str]:
    """Give the lines of a unit or an environment file, without comments; those that go on are put together."""
    whole = re.sub(r"\\\n\s*", " ", text)
    return [line.strip() for line in whole.split("\n") if line.strip()[:1] not in ("#", ";")]
