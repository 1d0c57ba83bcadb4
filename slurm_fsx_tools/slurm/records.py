"""Nodes and jobs of the records that ``--json`` gives: one reader for every shape that Slurm has had.

22.05 has ``"state": "idle", "state_flags": ["DRAIN"]``, features in one text, ``"job_state": "RUNNING"`` and plain
numbers; newer releases have ``"state": ["IDLE", "DRAIN"]``, a list of features, ``"job_state": ["RUNNING"]`` and
numbers as ``{"set": true, "infinite": false, "number": 2}``. Recorded from 22.05.8, 24.11.5 and 26.05.5:
``tests/data/slurm``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ..slurm_state import SlurmJob, SlurmNode
from .commands import WayUnfit
from .states import count_gpus, job_state, node_state

if TYPE_CHECKING:
    from collections.abc import Mapping

_READ = frozenset(
    (
        *("nodes", "name", "state", "state_flags", "gres", "partitions", "active_features", "address"),
        *("jobs", "job_id", "user_name", "user_id", "account", "partition", "job_state", "node_count", "container"),
        *("gres_detail", "tres_alloc_str", "start_time", "end_time"),
        *("set", "infinite", "number"),
    )
)
"""What is read of records. The rest, which is most of a large cluster's answer, is let go while that is read."""


def read(text: str, kind: str) -> list[Any]:
    """Give an answer's records, ``nodes`` or ``jobs``.

    Raises:
        WayUnfit: it is no such answer.
    """
    try:
        # A job's name may hold what JSON wants escaped.
        answer = json.loads(text, strict=False, object_hook=_without_the_rest)
    except ValueError as error:
        raise WayUnfit(f"the answer is no JSON: {error}", hint="see what the command prints") from error
    records = answer.get(kind) if isinstance(answer, dict) else None
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise WayUnfit(f"the answer has no list of {kind}", hint="see what the command prints")
    return records


def nodes(text: str) -> list[SlurmNode]:
    """Read nodes, without the partition that takes jobs for each.

    Raises:
        WayUnfit: it is no such answer.
    """
    try:
        return [_node(record) for record in read(text, "nodes")]
    except (KeyError, TypeError, ValueError) as error:
        raise WayUnfit(f"a node is not told as expected: {error!r}", hint="see what the command prints") from error


def jobs(text: str) -> list[SlurmJob]:
    """Read jobs, those that have ended too.

    Raises:
        WayUnfit: it is no such answer.
    """
    try:
        return [_job(record) for record in read(text, "jobs")]
    except (KeyError, TypeError, ValueError) as error:
        raise WayUnfit(f"a job is not told as expected: {error!r}", hint="see what the command prints") from error


def _without_the_rest(record: dict[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in _READ.intersection(record)}


def _node(record: Mapping[str, Any]) -> SlurmNode:
    state, marks = node_state([*_words(record["state"]), *_words(record.get("state_flags"))])
    return SlurmNode(
        name=str(record["name"]),
        state=state,
        marks=marks,
        gpus=count_gpus(record.get("gres") or ""),
        partitions=tuple(sorted(_words(record["partitions"]))),
        features=tuple(_words(record.get("active_features"))),
        address=record.get("address") or "",
    )


def _job(record: Mapping[str, Any]) -> SlurmJob:
    # What each node gave is told where the job has nodes; what was asked for is told in many ways.
    detail = record.get("gres_detail") or []
    gpus = sum(map(count_gpus, detail)) or count_gpus(record.get("tres_alloc_str") or "")
    return SlurmJob(
        id=int(record["job_id"]),
        user=record.get("user_name") or "",
        uid=int(record["user_id"]),
        account=record.get("account") or "",
        partition=record.get("partition") or "",
        name=record.get("name") or "",
        state=job_state(_words(record["job_state"])),
        nodes=record.get("nodes") or "",
        node_count=int(_number(record.get("node_count"))),
        gpus=gpus,
        start_time_s=_number(record.get("start_time")),
        end_time_s=_number(record.get("end_time")),
        container=record.get("container") or "",
    )


def _words(value: Any) -> list[str]:
    """Give the words of a list, or of a text that separates them by commas or, as states are, by ``+``."""
    if isinstance(value, list):
        return [str(word) for word in value]
    return [word for word in str(value or "").replace("+", ",").split(",") if word]


def _number(value: Any) -> float:
    """Give a number; 0 where none is set, or an infinite one."""
    if isinstance(value, dict):
        return float(value["number"]) if value.get("set") and not value.get("infinite") else 0.0
    return float(value or 0)
