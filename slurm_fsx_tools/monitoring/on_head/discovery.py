"""What the target files should say, by Slurm's nodes and by what the nodes themselves wrote.

Nodes that Slurm has powered down, or does not know any more, have no target: nobody wants an alert for those. A node
that is down, drained or silent keeps its target, since that is what alerts are for. One that is being powered up keeps
what it may just have written, and gets no target before it is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ...config.model import is_instance_type
from ...job import Node
from ..exporters import DCGM, usual_exporters
from ..targets import FROM_SLURM, make_target

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from ...config.model import Config
    from ...slurm_state import SlurmNode
    from ..targets import Targets

PASSES_TO_BELIEVE = 3
"""How many answers in a row must say that most nodes do not exist any more."""

_OFF_MARKS = "~%"
_OFF = ("future", "powered_down", "powering_down")
_COMING_MARKS = "#"
_COMING = ("powering_up",)


class Change(NamedTuple):
    """What one node's file needs."""

    node: str
    act: str
    """``add``, ``label``, ``mend`` or ``remove``."""

    why: str
    targets: Targets
    """What the file will say; nothing where it goes."""


class Plan(NamedTuple):
    """What all files need."""

    changes: list[Change]
    targets: dict[str, Targets]
    """What Prometheus will see once the changes are made, by node."""

    doubted: list[str]
    """Nodes that Slurm does not name any more, and that stay until it has said so often enough."""

    doubts: int
    """How many answers in a row, this one included, have missed most of the registered nodes."""

    disputed: list[str]
    """Nodes whose files another cluster writes, too; they stay as that one has them."""

    foreign: list[str]
    """Files that are no node's of this cluster, and that are left alone."""


def make_plan(
    nodes: Iterable[SlurmNode],
    files: Mapping[str, Targets | None],
    cluster: str,
    config: Config,
    doubts: int = 0,
    claimed: Collection[str] = (),
) -> Plan:
    """Compare Slurm's nodes with the files that are there.

    Args:
        nodes: All nodes of the cluster.
        files: Content of the files by node name; None where one is broken, or not ours.
        cluster: The label ``cluster``.
        config: Says where the usual exporters listen.
        doubts: How many answers in a row before this one have missed most of the registered nodes.
        claimed: Nodes whose files were another cluster's, and were taken over before: where that is undone, that
            cluster lives, and has a node of that name.
    """
    changes: list[Change] = []
    after: dict[str, Targets] = {}
    disputed: list[str] = []
    known = {node.name: node for node in nodes}
    ours = {name: targets for name, targets in files.items() if targets and not is_others(targets, cluster)}
    has_dcgm = any(DCGM in targets for targets in ours.values())
    for node in known.values():
        there = node.name in files
        targets = files.get(node.name)
        theirs = targets if node.name not in ours else None
        if theirs and node.name in claimed:
            disputed.append(node.name)
            after[node.name] = theirs
            continue
        if is_off(node):
            if there and not theirs:
                changes.append(Change(node.name, "remove", f"Slurm has it {node.state}{node.marks}", {}))
            continue
        if is_coming(node) and not targets:
            continue
        wanted = _wanted(node, targets, cluster, config, has_dcgm)
        after[node.name] = targets if targets and targets == wanted else wanted  # the same once, not twice, in memory
        if targets != wanted:
            act, why = "label", "Slurm's labels are others"
            if targets is None:
                act, why = ("mend", "the file is broken, or not ours") if there else ("add", "it has no file")
            changes.append(Change(node.name, act, why, wanted))
    vanished = sorted(ours.keys() - known.keys())
    # More than a reconfiguration usually takes away.
    doubts = doubts + 1 if 2 * len(vanished) > len(ours) else 0
    doubted: list[str] = []
    if 0 < doubts < PASSES_TO_BELIEVE:
        doubted = vanished
        after.update((name, ours[name]) for name in vanished)
    else:
        changes += [Change(name, "remove", "Slurm does not know it any more", {}) for name in vanished]
    foreign = sorted(files.keys() - known.keys() - ours.keys())
    after.update((name, targets) for name in foreign for targets in [files[name]] if targets)
    return Plan(changes, after, doubted, doubts, disputed, foreign)


def is_others(targets: Targets, cluster: str) -> bool:
    """Whether a file is another cluster's."""
    return all(target.labels.get("cluster") != cluster for target in targets.values())


def is_off(node: SlurmNode) -> bool:
    """Whether a node is powered off or being powered off; one whose jobs may still end is not."""
    return node.state in _OFF or any(mark in node.marks for mark in _OFF_MARKS)


def is_coming(node: SlurmNode) -> bool:
    """Whether a node is being powered up."""
    return node.state in _COMING or any(mark in node.marks for mark in _COMING_MARKS)


def labels_from_slurm(node: SlurmNode) -> dict[str, str]:
    """Give the labels that only Slurm knows: those that it does not tell are not there."""
    partitions = node.partitions or ((node.partition,) if node.partition else ())
    # ParallelCluster names the type among a node's features. Source: slurm_parallelcluster_QUEUE_partition.conf.
    instance_type = next((feature for feature in node.features if is_instance_type(feature)), "")
    labels = {"partition": ",".join(sorted(partitions)), "instance_type": instance_type}
    return {name: value for name, value in labels.items() if value}


def _wanted(node: SlurmNode, targets: Targets | None, cluster: str, config: Config, has_dcgm: bool) -> Targets:
    from_slurm = labels_from_slurm(node)
    if targets is None:
        place = Node(node.name, cluster)
        # A site may have no dcgm-exporter at all: it is one that has where a node said so that asked its port.
        usual = usual_exporters(config, has_dcgm and node.gpus > 0)
        return {each.name: make_target(place, cluster, each, from_slurm) for each in usual}
    wanted = {}
    for name, target in targets.items():
        kept = {key: value for key, value in target.labels.items() if key not in FROM_SLURM}
        wanted[name] = target._replace(labels={**kept, **from_slurm, "cluster": cluster})
    return wanted
