"""Registration at a node's set-up and boot: every exporter is asked anew, by a real request."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from ..exporters import answering
from ..targets import set_exporters
from .registration import look_anew

if TYPE_CHECKING:
    from ...config.model import Config
    from ...job import Node
    from ...shared_fs import SharedFs
    from ..exporters import Exporter

ANSWER_S = 10.0
"""How long one exporter may take for its metrics: Prometheus' own limit is as long."""

_POLL_S = 1.0


class Registration(NamedTuple):
    """What asking a node's exporters has led to."""

    answering: list[Exporter]
    silent: dict[str, str]
    """What is wrong with each exporter that gave no metrics of its own, by its name."""

    written: bool


def register_anew(
    node: Node, exporters: list[Exporter], config: Config, shared_fs: SharedFs, wait_s: float
) -> Registration:
    """Ask all exporters of this node, and have its file name those that answer.

    One that was registered before and does not answer stays, so that its alert fires; one that is not offered any more
    goes.

    Args:
        node: This node.
        exporters: What plugins offer.
        config: The configuration.
        shared_fs: How to look at files below ``fsx.root``.
        wait_s: How long to wait for exporters that are still starting, in all.

    Raises:
        SharedFsUnavailable, InvalidName, OSError: the node's file cannot be read or written.
    """
    end = time.monotonic() + wait_s
    silent: dict[str, str] = {}
    found: list[Exporter] = []
    waiting = list(exporters)
    while waiting:
        for exporter in waiting:
            silent[exporter.name] = answering(node.name, exporter, max(0.5, min(ANSWER_S, end - time.monotonic())))
        found += [exporter for exporter in waiting if not silent[exporter.name]]
        waiting = [exporter for exporter in waiting if silent[exporter.name]]
        if time.monotonic() + _POLL_S > end:
            break
        time.sleep(_POLL_S if waiting else 0)
    keep = [exporter.name for exporter in waiting]
    root, cluster = config["fsx.root"], config["cluster.name"]
    written = shared_fs.look(lambda: set_exporters(root, node, cluster, found, keep))
    look_anew(config)
    return Registration(found, {name: problem for name, problem in silent.items() if problem}, bool(written))
