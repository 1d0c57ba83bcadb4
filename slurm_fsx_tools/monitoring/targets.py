"""Prometheus' targets: one file per node under ``/fsx/monitoring/targets``.

Format: Prometheus' ``file_sd_config``, a list of ``{"targets": [HOST:PORT], "labels": {…}}``. The labels are constant:
a job's id there would restart every series of the node at each job. The node writes ``cluster``, ``node`` and
``exporter``, the head node ``partition`` and ``instance_type``; each keeps what the other wrote. A change that is
lost where both write at once is seen as missing, and made again, by the next prolog or sync.
"""

from __future__ import annotations

import os

from .. import json_text
from ..errors import InvalidName, SharedFsUnavailable, UntrustedFile
from ..files import read_trusted, remove, write_atomically
from ..values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from ..job import Node
    from .exporters import Exporter

FOLDER = ("monitoring", "targets")
SUFFIX = ".json"
FROM_SLURM = ("partition", "instance_type")
"""Labels that only the head node knows."""


class Target(NamedTuple):
    """One exporter of a node, as Prometheus is told of it."""

    address: str
    """``HOST:PORT``, by the node's name: addresses change with each boot, and would make new series."""

    labels: dict[str, str]


Targets = dict[str, Target]
"""A node's, by the exporter's name."""


def make_target(node: Node, cluster: str, exporter: Exporter, more: Mapping[str, str] | None = None) -> Target:
    """Give an exporter's target, with labels in addition to those of every target."""
    labels = {**(more or {}), "cluster": cluster or node.cluster, "exporter": exporter.name, "node": node.name}
    return Target(f"{node.name}:{exporter.port}", labels)


def format_targets(targets: Targets) -> bytes:
    """Give the content of a node's file: the same targets give the same bytes."""
    import json  # not where a prolog finds all as it was

    groups = [{"targets": [targets[name].address], "labels": targets[name].labels} for name in sorted(targets)]
    return (json.dumps(groups, indent=1, sort_keys=True) + "\n").encode()


def parse_targets(data: bytes, node_name: str) -> Targets | None:
    """Read the content of a node's file; None where it is broken, empty, or nothing that we write."""
    targets: Targets = {}
    try:
        groups: list[dict[str, Any]] = json_text.loads(data)
        for group in groups:
            (address,) = group["targets"]
            labels = {name: value for name, value in group["labels"].items() if isinstance(value, str)}
            if labels["node"] != node_name or not isinstance(address, str) or len(labels) != len(group["labels"]):
                return None
            targets[labels["exporter"]] = Target(address, labels)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return targets or None


def missing_exporters(fsx_root: str, node: Node, cluster: str, exporters: Iterable[Exporter]) -> list[Exporter]:
    """List the exporters that a node's file does not name as they are now.

    One open and one read below `fsx_root`.

    Raises:
        InvalidName: the node's name cannot be a file's.
        OSError: the file cannot be read.
    """
    known = read_targets(fsx_root, node.name) or {}
    return [each for each in exporters if not _is_registered(known.get(each.name), make_target(node, cluster, each))]


def add_exporters(fsx_root: str, node: Node, cluster: str, exporters: Iterable[Exporter]) -> bool:
    """Add exporters to a node's file, or change their ports, and keep all others; say whether it was written.

    Raises:
        InvalidName, SharedFsUnavailable, OSError: as for `write_targets`.
    """
    known = read_targets(fsx_root, node.name) or {}
    return write_targets(fsx_root, node.name, _with(known, node, cluster, exporters))


def set_exporters(
    fsx_root: str, node: Node, cluster: str, exporters: Iterable[Exporter], keep: Iterable[str] = ()
) -> bool:
    """Have a node's file name these exporters, those of the names to keep that are there already, and no others.

    Raises:
        InvalidName, SharedFsUnavailable, OSError: as for `write_targets`.
    """
    kept = set(keep)
    known = read_targets(fsx_root, node.name) or {}
    wanted = _with({}, node, cluster, exporters, known)
    wanted.update({name: each for name, each in known.items() if name in kept and name not in wanted})
    return write_targets(fsx_root, node.name, wanted)


def read_targets(fsx_root: str, node_name: str) -> Targets | None:
    """Read a node's file; None where there is none, or none that we can have written.

    Raises:
        InvalidName: the node's name cannot be a file's.
        OSError: the file cannot be read.
    """
    try:
        return parse_targets(read_trusted(target_path(fsx_root, node_name)), node_name)
    except (FileNotFoundError, UntrustedFile):
        return None


def write_targets(fsx_root: str, node_name: str, targets: Targets) -> bool:
    """Write a node's file where its content is another; say whether it was. A node without targets has no file.

    Raises:
        InvalidName: the node's name cannot be a file's.
        SharedFsUnavailable: nothing is mounted at `fsx_root`.
        OSError: the file cannot be written.
    """
    path = target_path(fsx_root, node_name)
    data = format_targets(targets)
    try:
        if read_trusted(path) == data:
            return False
    except (FileNotFoundError, UntrustedFile):
        pass  # what somebody else wrote there is replaced
    if not targets:
        return remove(path)
    try:
        write_atomically(path, data)
    except FileNotFoundError:
        make_folder(fsx_root)
        write_atomically(path, data)
    return True


def target_path(fsx_root: str, node_name: str) -> str:
    """Give the path of a node's file.

    Raises:
        InvalidName: the node's name cannot be a file's.
    """
    if "/" in node_name or node_name.startswith(".") or not node_name:
        raise InvalidName(f"{node_name!r} is no name of a node", hint="see NodeName in slurm.conf")
    return os.path.join(fsx_root, *FOLDER, node_name + SUFFIX)


def make_folder(fsx_root: str) -> None:
    """Make the folder of targets, on a first job before the head node's set-up; never on the bare mount point.

    Raises:
        SharedFsUnavailable: nothing is mounted at `fsx_root`.
        OSError: it cannot be made.
    """
    if not os.path.ismount(fsx_root):
        raise SharedFsUnavailable(
            f"nothing is mounted at {fsx_root}", hint=f"mount it, then run a job: see findmnt {fsx_root}"
        )
    path = fsx_root
    for part in FOLDER:
        path = os.path.join(path, part)
        try:
            os.mkdir(path, 0o755)
        except FileExistsError:
            pass


def _with(
    kept: Targets, node: Node, cluster: str, exporters: Iterable[Exporter], known: Targets | None = None
) -> Targets:
    """Add exporters to targets; labels that are known stay, and those from Slurm go with the new ones."""
    known = kept if known is None else known
    from_slurm = {name: each.labels[name] for each in known.values() for name in FROM_SLURM if name in each.labels}
    added = {}
    for exporter in exporters:
        there = known.get(exporter.name)
        added[exporter.name] = make_target(node, cluster, exporter, there.labels if there else from_slurm)
    return {**kept, **added}


def _is_registered(known: Target | None, wanted: Target) -> bool:
    """Whether a target is there as a node writes it, whatever labels the head node has added."""
    return (
        known is not None
        and known.address == wanted.address
        and all(known.labels.get(name) == value for name, value in wanted.labels.items())
    )
