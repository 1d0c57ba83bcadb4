"""A prolog's part in registration: it adds exporters that answer, and asks the silent ones only now and then.

Only a file on ``/fsx`` is read where all exporters that plugins offer are registered. An exporter that does not answer
is remembered in ``<runtime_dir>/silent-exporters``, so that it does not cost every prolog its time. Nothing is ever
taken away here: an exporter that has died must stay a target, or nobody hears of it.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from ..errors import SlurmFsxError
from ..files import read_trusted, write_atomically
from .exporters import Exporter, listening
from .targets import add_exporters, missing_exporters

if TYPE_CHECKING:
    from ..config.model import Config
    from ..job import Node
    from ..shared_fs import SharedFs

ASK_AGAIN_S = 300.0
"""How long a silent exporter is left alone; node set-up asks it at once."""


def register_new(
    node: Node, exporters: list[Exporter], config: Config, shared_fs: SharedFs, now_s: float | None = None
) -> list[Exporter]:
    """Register the exporters of this node that are not, and whose port answers; give those that were added.

    Args:
        node: This node.
        exporters: What plugins offer.
        config: The configuration.
        shared_fs: How to look at files below ``fsx.root``.
        now_s: Seconds since the machine's boot, as `since_boot_s` gives them.

    Raises:
        SharedFsUnavailable, InvalidName, OSError: the node's file cannot be read or written.
    """
    root, cluster = config["fsx.root"], config["cluster.name"]
    missing = shared_fs.look(lambda: missing_exporters(root, node, cluster, exporters))
    if not missing:
        return []
    path = f"{config['runtime_dir']}/silent-exporters"
    now = since_boot_s() if now_s is None else now_s
    silent = _read_silent(path, now)
    asked = [Exporter(*each) for each in missing if _key(Exporter(*each)) not in silent]
    found = listening(node.name, asked) if asked else []
    if found:
        shared_fs.look(lambda: add_exporters(root, node, cluster, found))
    if len(found) < len(asked):
        silent.update({_key(exporter): now for exporter in asked if exporter not in found})
        try:
            write_atomically(path, json.dumps(silent).encode())
        except OSError:
            pass  # a full /run: the next prolog asks again
    return found


def since_boot_s() -> float:
    """Seconds since the machine's boot, suspended ones included: no clock that anybody sets."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _read_silent(path: str, now_s: float) -> dict[str, float]:
    """Read when each exporter was found silent, but for those that it is time to ask again."""
    try:
        silent: dict[str, float] = json.loads(read_trusted(path))
        # A time to come was written before this boot.
        return {key: then for key, then in silent.items() if 0 <= now_s - then < ASK_AGAIN_S}
    except (OSError, SlurmFsxError, ValueError, TypeError, AttributeError):
        return {}


def _key(exporter: Exporter) -> str:
    return f"{exporter.name}:{exporter.port}"
