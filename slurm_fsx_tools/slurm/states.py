"""What Slurm's words for nodes, jobs and generic resources come to, however an answer spells them."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from ..slurm_state import SlurmNode

WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD")
"""Source: squeue(1), JOB STATE CODES: states of jobs that hold no node."""

ENDED = (
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"),
    *("REVOKED", "TIMEOUT"),
)

_ABOVE_ALL = ("COMPLETING", "CONFIGURING", "STAGE_OUT", "SIGNALING", "STOPPED", "RESIZING", "SPECIAL_EXIT", "REQUEUED")
"""What squeue shows of a job that is this, too, the first one of these."""

_MARKS = {
    "NOT_RESPONDING": "*",
    "NO_RESPOND": "*",
    "POWERING_DOWN": "%",
    "POWERED_DOWN": "~",
    "POWERING_UP": "#",
    "POWER_DOWN": "!",
    "MAINTENANCE": "$",
    "MAINT": "$",
    "REBOOT_ISSUED": "^",
    "REBOOT_REQUESTED": "@",
    "PLANNED": "-",
}
"""Source: sinfo(1), NODE STATE CODES."""

_BUSY = ("allocated", "mixed")
_BASES = ("allocated", "mixed", "idle", "down", "error", "future", "unknown")
_GPUS = re.compile(r"(?:^|,)(?:gres[:/])?gpu(?:[:/][^:,()=]*[^:,()=\d][^:,()=]*)?[:=](\d+)")
_ALL_GPUS = re.compile(r"(?:^|,)gres/gpu=(\d+)")


class Partition(NamedTuple):
    """A partition, as far as it matters for where a job can go."""

    name: str
    is_up: bool
    is_default: bool


def node_state(words: Iterable[str]) -> tuple[str, str]:
    """Give a node's state as sinfo shows it, and its marks, of the words that describe it: ``IDLE``, ``DRAIN``, ….

    Words that mean nothing here (``CLOUD``, ``DYNAMIC_NORM``) count for nothing; a state nobody knows stays as it is.
    """
    flags = {word.upper() for word in words}
    marks = ""
    for word, mark in _MARKS.items():
        if word in flags and mark not in marks:
            marks += mark
    base = next((word.lower() for word in flags if word.lower() in _BASES), "")
    if not base:
        base = next(iter(sorted(word.lower() for word in flags)), "unknown")
    is_completing = "COMPLETING" in flags
    if "DRAIN" in flags:
        return ("draining" if is_completing or base in _BUSY else "drained"), marks
    if "FAIL" in flags:
        return ("failing" if is_completing or base in _BUSY else "fail"), marks
    if "INVALID_REG" in flags:
        return "inval", marks
    if is_completing and base == "allocated":
        return base, marks + "+"
    if is_completing and base == "idle":
        return "completing", marks
    if base == "idle" and "$" in marks:
        return "maint", marks
    if base == "idle" and "RESERVED" in flags:
        return "reserved", marks
    return base, marks


def job_state(words: Collection[str]) -> str:
    """Give a job's state in squeue's words, of all that are true of it."""
    return next((word for word in _ABOVE_ALL if word in words), next(iter(words), ""))


@lru_cache(1024)  # most nodes have the same
def count_gpus(gres: str) -> int:
    """Count GPUs in generic resources, e.g. ``gpu:a100:8(S:0-1),nic:16``, ``gres/gpu:2`` or ``gres/gpu=2``."""
    # With types, Slurm counts each GPU twice: once for all, once by its type.
    total = _ALL_GPUS.search(gres)
    return int(total[1]) if total else sum(int(number) for number in _GPUS.findall(gres))


def choose_partition(names: Iterable[str], partitions: Mapping[str, Partition]) -> str:
    """Give the partition that takes jobs for a node: the default one if that is possible; empty where none does."""
    up = [name for name in names if name in partitions and partitions[name].is_up]
    return next((name for name in up if partitions[name].is_default), up[0] if up else "")


def with_partition(nodes: Iterable[SlurmNode], partitions: Mapping[str, Partition]) -> list[SlurmNode]:
    """Give nodes with the partition that takes jobs for each."""
    chosen: dict[tuple[str, ...], str] = {}
    result = []
    for node in nodes:
        if node.partitions not in chosen:
            chosen[node.partitions] = choose_partition(node.partitions, partitions)
        result.append(node._replace(partition=chosen[node.partitions]))
    return result
