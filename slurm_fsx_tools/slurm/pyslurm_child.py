"""The child process that imports pyslurm, and prints what it says in the shape that `records` reads.

Run by its path, so nothing but the standard library and pyslurm is imported: ``python -I pyslurm_child.py nodes|jobs
RELEASE [FOLDER…]``. It ends with 3 and a line on stderr where pyslurm does not fit; libslurm may end it in any way.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import sys
from importlib import import_module, metadata
from typing import Any

UNFIT = 3


def main(arguments: list[str]) -> int:
    """Print the nodes or jobs, as pyslurm has them."""
    what, release, *folders = arguments
    sys.path[:0] = folders
    # libslurm and pyslurm may print what they like: the answer goes where stdout was.
    answer = os.dup(1)
    os.dup2(2, 1)
    try:
        # Asked before the import, which may end this process.
        version = metadata.version("pyslurm")
    except metadata.PackageNotFoundError:
        version = ""
    if version and not fits(version, release):
        return _unfit(f"pyslurm {version} is not for Slurm {release}")
    pyslurm: Any = import_module("pyslurm")
    version = str(getattr(pyslurm, "__version__", ""))
    if not fits(version, release):
        return _unfit(f"pyslurm {version} is not for Slurm {release}")
    records = _nodes(pyslurm) if what == "nodes" else _jobs(pyslurm)
    with os.fdopen(answer, "w") as file:
        json.dump({what: records}, file)
    return 0


def fits(version: str, release: str) -> bool:
    """Whether a release of pyslurm, 22.5.3 say, is for a release of Slurm, 22.05 say."""
    numbers = [int(number) for number in re.findall(r"\d+", version)[:2]]
    return len(numbers) == 2 and numbers == [int(number) for number in release.split(".")[:2]]


def _unfit(reason: str) -> int:
    print(reason, file=sys.stderr)
    return UNFIT


def _nodes(pyslurm: Any) -> list[dict[str, Any]]:
    return [
        {
            "name": node.name,
            "state": _state(node),
            "gres": ",".join(f"{name}:{count}" for name, count in (node.configured_gres or {}).items()),
            "partitions": list(node.partitions or ()),
            "active_features": list(node.active_features or ()),
            "address": node.address,
        }
        for node in pyslurm.Nodes.load().values()
    ]


def _state(node: Any) -> list[str]:
    """Give the words of a node's state; that it is only partly allocated is for the reader to find out."""
    words = str(node.state).split("+")
    is_mixed = 0 < (node.allocated_cpus or 0) < (node.effective_cpus or 0)
    return ["MIXED" if word == "ALLOCATED" and is_mixed else word for word in words]


def _jobs(pyslurm: Any) -> list[dict[str, Any]]:
    names: dict[int, str] = {}
    return [
        {
            "job_id": job.id,
            "user_id": job.user_id,
            "user_name": _user(job.user_id, names),
            "account": job.account,
            "partition": job.partition,
            "name": job.name,
            "job_state": job.state,
            "nodes": job.allocated_nodes,
            "node_count": job.num_nodes,
            "gres_detail": _gpus(job) if job.allocated_nodes and job.gres_per_node is not None else [],
            "start_time": job.start_time,
            "end_time": job.end_time,
            "container": job.container,
        }
        for job in pyslurm.Jobs.load().values()
    ]


def _gpus(job: Any) -> list[str]:
    """Give the GPUs of each of a job's nodes."""
    found = []
    for node in job.get_resource_layout_per_node().values():
        for name, what in (node.get("gres") or {}).items():
            if name.partition(":")[0] == "gpu":
                found.append(f"{name}:{what['count'] if isinstance(what, dict) else what}")
    return found


def _user(uid: int, names: dict[int, str]) -> str:
    if uid not in names:
        try:
            names[uid] = pwd.getpwuid(uid).pw_name
        except KeyError:
            names[uid] = ""
    return names[uid]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
