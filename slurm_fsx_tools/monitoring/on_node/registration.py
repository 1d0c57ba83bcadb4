"""A prolog's part in registration: it adds exporters that answer, and looks at what is registered only now and then.

What the last look found is remembered in ``<runtime_dir>/registration.json``: as long as that counts, a prolog reads
this one local file, and nothing on ``/fsx``. An exporter that does not answer is remembered there as well, so that it
does not cost every prolog its time. Nothing is ever taken away here: an exporter that has died must stay a target, or
nobody hears of it.
"""

from __future__ import annotations

import time

from ... import json_text
from ...errors import SlurmFsxError
from ...files import read_trusted, remove, write_atomically
from ...values import NamedTuple
from ..exporters import Exporter, listening
from ..targets import add_exporters, missing_exporters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...config.model import Config
    from ...job import Node
    from ...shared_fs import SharedFs

LOOK_AGAIN_S = 600.0
"""How long a look at ``/fsx`` counts. The head node's sync mends a file within a minute, but knows a site's own
exporters only from the node. A node that Slurm powers down, which has sync remove its file, was idle before for about
as long as this (ParallelCluster's ScaledownIdletime is 10 minutes): one that comes back without a boot looks again."""

ASK_AGAIN_S = 300.0
"""How long a silent exporter is left alone; node set-up asks it at once."""


class Memory(NamedTuple):
    """What a node remembers of the last look. Made of what json can carry."""

    offer: list[object]
    """Whom it was made for: see `_offer`."""

    looked_s: float
    """When, in seconds since the machine's boot."""

    silent: dict[str, float]
    """When each exporter that is not registered was found silent."""

    def settles(self, offer: list[object], now_s: float) -> bool:
        """Whether there is nothing to do; a time to come was written before this boot."""
        return (
            self.offer == offer
            and 0 <= now_s - self.looked_s < LOOK_AGAIN_S
            and len(self.still_silent(now_s)) == len(self.silent)
        )

    def still_silent(self, now_s: float) -> dict[str, float]:
        """Give the silent exporters that it is not yet time to ask again."""
        return {key: then for key, then in self.silent.items() if 0 <= now_s - then < ASK_AGAIN_S}


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
    now = since_boot_s() if now_s is None else now_s
    offer = _offer(root, node, cluster, exporters)
    memory = _recall(config)
    if memory is not None and memory.settles(offer, now):
        return []
    missing = [Exporter(*each) for each in shared_fs.look(lambda: missing_exporters(root, node, cluster, exporters))]
    known = memory.still_silent(now) if memory is not None else {}
    asked = [exporter for exporter in missing if _key(exporter) not in known]
    found = listening(node.name, asked) if asked else []
    if found:
        shared_fs.look(lambda: add_exporters(root, node, cluster, found))
    silent = {_key(exporter): known.get(_key(exporter), now) for exporter in missing if exporter not in found}
    try:
        write_atomically(_path(config), json_text.dumps(Memory(offer, now, silent)))
    except OSError:
        pass  # a full /run: the next prolog looks again
    return found


def look_anew(config: Config) -> None:
    """Have the next prolog look, and ask silent exporters, whatever is remembered.

    Raises:
        OSError: the memory cannot be removed.
    """
    remove(_path(config))


def since_boot_s() -> float:
    """Seconds since the machine's boot, suspended ones included: no clock that anybody sets."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _offer(root: str, node: Node, cluster: str, exporters: list[Exporter]) -> list[object]:
    """Give what a look depends on, as json gives it back."""
    return [root, *node, cluster, *sorted([*exporter] for exporter in exporters)]


def _recall(config: Config) -> Memory | None:
    """Give what this node remembers; None where that is nothing, or nothing that root alone could have written."""
    try:
        offer, looked_s, silent = json_text.loads(read_trusted(_path(config)))
        return Memory(offer, float(looked_s), {key: float(then) for key, then in silent.items()})
    except (OSError, SlurmFsxError, ValueError, TypeError, AttributeError, RecursionError):
        return None


def _path(config: Config) -> str:
    return f"{config['runtime_dir']}/registration.json"


def _key(exporter: Exporter) -> str:
    return f"{exporter.name}:{exporter.port}"
