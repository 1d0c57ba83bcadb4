"""Prometheus' targets: one file per node under ``/fsx/monitoring/targets``.

Format: Prometheus' ``file_sd_config``, a list of ``{"targets": [HOST:PORT], "labels": {…}}``. The labels are constant:
a job's id there would restart every series of the node at each job.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from ..errors import InvalidName, SharedFsUnavailable, UntrustedFile
from ..files import read_trusted, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..job import Node
    from .exporters import Exporter

FOLDER = ("monitoring", "targets")


def format_targets(node: Node, cluster: str, exporters: Iterable[Exporter]) -> bytes:
    """Give the content of a node's file: the same exporters give the same bytes."""
    groups = [
        {
            "targets": [f"{node.name}:{exporter.port}"],
            "labels": {"cluster": cluster or node.cluster, "exporter": exporter.name, "node": node.name},
        }
        for exporter in sorted(exporters)
    ]
    return (json.dumps(groups, indent=1) + "\n").encode()


def write_targets(fsx_root: str, node_name: str, data: bytes) -> bool:
    """Write a node's file where its content is another; say whether it was.

    One open and one read below `fsx_root` where nothing changed.

    Raises:
        InvalidName: the node's name cannot be a file's.
        SharedFsUnavailable: nothing is mounted at `fsx_root`.
        OSError: the file cannot be written.
    """
    if "/" in node_name or node_name.startswith("."):
        raise InvalidName(f"{node_name!r} is no name of a node", hint="see NodeName in slurm.conf")
    folder = os.path.join(fsx_root, *FOLDER)
    path = os.path.join(folder, f"{node_name}.json")
    try:
        if read_trusted(path) == data:
            return False
    except (FileNotFoundError, UntrustedFile):
        pass  # what somebody else wrote there is replaced
    try:
        write_atomically(path, data)
    except FileNotFoundError:
        _make_folder(fsx_root)
        write_atomically(path, data)
    return True


def _make_folder(fsx_root: str) -> None:
    """Make the folder of targets, on a first job before the head node's set-up; never on the bare mount point."""
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
