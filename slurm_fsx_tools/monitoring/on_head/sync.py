"""One pass over the target files on the head node: see, ask Slurm, and write what has changed."""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ...errors import LockTimeout, SlurmUnavailable
from ...files import write_atomically
from .discovery import is_others, make_plan
from .target_files import TargetFiles, read_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...config.model import Config
    from ...slurm_state import SlurmClient, SlurmNode
    from .discovery import Change, Plan

_T = TypeVar("_T")

LOCK_TIMEOUT_S = 30.0
_POLL_S = 0.05


class Outcome(NamedTuple):
    """What a pass found and did."""

    nodes: list[SlurmNode]
    plan: Plan
    done: list[Change]
    """The changes that were made."""

    failed: list[tuple[Change, str]]
    """Changes that could not be made, each with its reason."""

    leftovers: int
    """Temporary files of killed writers that were removed."""

    @property
    def is_whole(self) -> bool:
        """Whether the files are as they should be, or would be."""
        return not (self.failed or self.plan.disputed)


class Sync:
    """Keeps the target files of a cluster as Slurm's nodes are.

    Args:
        client: Whom to ask.
        config: Where the files are, and what this remembers.
    """

    def __init__(self, client: SlurmClient, config: Config) -> None:
        self._client = client
        self._config = config
        self._cluster = str(config["cluster.name"])
        self._state_dir = str(config["monitoring.state_dir"])

    def run(self, *, dry_run: bool = False, lock_timeout_s: float = LOCK_TIMEOUT_S) -> Outcome:
        """Make one pass.

        The files are looked at before Slurm is asked: what a node writes after its state was told is never removed.

        Args:
            dry_run: Only find out what would be done, and write nothing.
            lock_timeout_s: How long to wait for another pass.

        Raises:
            SlurmUnavailable: Slurm does not answer, or not believably; all stays as it was.
            SharedFsUnavailable: nothing is mounted at ``fsx.root``.
            LockTimeout: another pass did not end.
            OSError: the folder of targets, or this one's own, cannot be used.
        """
        if dry_run:
            return self._pass(dry_run=True)
        os.makedirs(self._state_dir, 0o755, exist_ok=True)
        with _locked(f"{self._state_dir}/sync.lock", lock_timeout_s):
            return self._pass()

    def _pass(self, *, dry_run: bool = False) -> Outcome:
        path = f"{self._state_dir}/targets.json"
        memory = read_memory(path)
        files = TargetFiles(self._config["fsx.root"])
        files.recall(memory)
        files.look()
        nodes = ask_nodes(self._client)
        cluster = self._cluster_name()
        doubts = _remembered(memory, "doubts", 0)
        claimed: set[str] = set(_remembered(memory, "claimed", []))
        plan = make_plan(nodes, files.content, cluster, self._config, doubts, claimed)
        if dry_run:
            return Outcome(nodes, plan, [], [], 0)
        theirs = [name for name, targets in files.content.items() if targets and is_others(targets, cluster)]
        done, failed = _apply(plan, files)
        claimed.update({change.node for change in done}.intersection(theirs))
        leftovers = files.remove_leftovers(time.time())
        now = {"doubts": plan.doubts, "claimed": sorted(claimed)}
        if files.has_changed or now != {name: memory.get(name) for name in now}:
            data = json.dumps({**files.memory(), **now}, separators=(",", ":"))
            write_atomically(path, data.encode())
        return Outcome(nodes, plan, done, failed, leftovers)

    def _cluster_name(self) -> str:
        if not self._cluster:
            self._cluster = self._client.cluster_name()
        if not self._cluster:
            raise SlurmUnavailable("Slurm does not tell the cluster's name", hint="set cluster.name, or: scontrol ping")
        return self._cluster


def ask_nodes(client: SlurmClient) -> list[SlurmNode]:
    """Give Slurm's nodes; an answer without any is none: no cluster is so, but a controller may be half up.

    Raises:
        SlurmUnavailable: there is no answer that can be believed.
    """
    nodes = client.nodes()
    if not nodes:
        raise SlurmUnavailable("Slurm names no node at all, which is not believed", hint="see: sinfo --all")
    return nodes


def _remembered(memory: dict[str, Any], name: str, default: _T) -> _T:
    value = memory.get(name)
    return value if isinstance(value, type(default)) else default


def _apply(plan: Plan, files: TargetFiles) -> tuple[list[Change], list[tuple[Change, str]]]:
    done, failed = [], []
    for change in plan.changes:
        try:
            if change.targets:
                files.write(change.node, change.targets)
                done.append(change)
            elif files.remove(change.node):
                done.append(change)
        except OSError as error:
            failed.append((change, error.strerror or str(error)))
    return done, failed


@contextmanager
def _locked(path: str, timeout_s: float) -> Iterator[None]:
    """Hold a lock of this machine's, which ends with its holder."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        end = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise LockTimeout(
                        f"another sync has held {path} for {timeout_s:g} s",
                        hint="see whether the shared file system hangs",
                    ) from None
                time.sleep(_POLL_S)
        yield
    finally:
        os.close(fd)
