"""How the cluster is, for the status page and for http_sd: asked at an interval, whoever looks at it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from ...errors import SlurmFsxError
from ...shared_fs import SharedFs, call_apart
from ...slurm_state import SlurmJob, SlurmNode
from ..prometheus.query import PrometheusClient
from .discovery import make_plan
from .sync import ask_nodes
from .target_files import TargetFiles

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...config.model import Config
    from ...slurm_state import SlurmClient
    from ..targets import Targets

PROMETHEUS_S = 5.0
LOOK_S = 60.0
"""How long a look at the shared file system may take: the first one reads every file of a large cluster."""

SLURM_S = 120.0
"""How long Slurm may take for all answers together: each of its commands has a limit of its own."""

_UP = 'count by (exporter) (up{job="slurm-fsx"} == 1)'
_DOWN = 'up{job="slurm-fsx"} == 0'


class Other(NamedTuple):
    """What other features tell."""

    images: list[str]
    """Names of the catalogue's images."""

    imports: dict[str, int]
    """How many images by the state of their import."""

    nccl: str
    """The NCCL version that jobs get; empty for none of ours."""


class Exporters(NamedTuple):
    """What Prometheus reaches."""

    up: dict[str, int]
    """How many of each exporter answer."""

    down: dict[str, list[str]]
    """The nodes where an exporter does not."""


class Overview(NamedTuple):
    """How the cluster is, or was when it last said."""

    taken_s: float
    """Seconds since 1970."""

    nodes: list[SlurmNode]
    jobs: list[SlurmJob]
    targets: dict[str, Targets] | None
    """None where they were never seen."""

    exporters: Exporters | None
    """None where Prometheus does not answer."""

    other: Other
    problems: list[str]
    """What did not answer, and is as it was before."""


class Observer:
    """Takes overviews, one after the other.

    The shared file system is looked at in a child process, which may hang alone.

    Args:
        client: How Slurm is asked.
        config: Where target files and Prometheus are.
        ask_other: What other features tell; it touches the shared file system.
        let_go: Closes, in that child, what this process alone should hold, e.g. a port.
        look_s: How long a look at the shared file system may take.
    """

    def __init__(
        self,
        client: SlurmClient,
        config: Config,
        ask_other: Callable[[], Other],
        let_go: Callable[[], None] = lambda: None,
        look_s: float = LOOK_S,
    ) -> None:
        self._client = client
        self._config = config
        self._ask_other = ask_other
        self._let_go = let_go
        self._cluster = str(config["cluster.name"])
        self._shared_fs = SharedFs(config["fsx.root"], look_s)
        self._files = TargetFiles(config["fsx.root"])
        self._other = Other([], {}, "")
        self._nodes: list[SlurmNode] = []
        self._jobs: list[SlurmJob] = []
        self._has_seen_files = False

    def look(self) -> Overview:
        """Take an overview; what does not answer is as it was, and its problem is told."""
        problems = []
        exporters = None
        self._shared_fs.try_again()
        try:
            changes, other = self._shared_fs.look(self._look_at_files)
            self._files.take_over(changes)
            self._other = Other(*other)
            self._has_seen_files = True
        except (OSError, SlurmFsxError) as error:
            seen = "targets and images are as they were last seen" if self._has_seen_files else "no target is known"
            problems.append(f"The shared file system does not answer, {seen}: {error}")
        try:
            # Apart: a large cluster's answer is ten times as long as what is kept of it, and ends with the child.
            answer = call_apart(self._ask_slurm, SLURM_S)
            self._nodes, self._jobs = _restore_nodes(answer[0]), [SlurmJob(*each) for each in answer[1]]
            self._cluster = str(answer[2])
        except (OSError, SlurmFsxError) as error:
            seen = "nodes and jobs are as they were last seen" if self._nodes else "nodes and jobs are not known"
            problems.append(f"Slurm does not answer, {seen}: {error}")
        try:
            exporters = ask_prometheus(self._config["monitoring.prometheus_url"])
        except SlurmFsxError as error:
            problems.append(f"Prometheus does not answer: {error}")
        targets = self._targets() if self._has_seen_files else None
        return Overview(time.time(), self._nodes, self._jobs, targets, exporters, self._other, problems)

    @property
    def cluster(self) -> str:
        """The cluster's name; empty while it is not known."""
        return self._cluster

    def _look_at_files(self) -> tuple[dict[str, Any], Other]:
        """Runs in the child."""
        self._let_go()
        return self._files.find_changes(), self._ask_other()

    def _ask_slurm(self) -> tuple[list[SlurmNode], list[SlurmJob], str]:
        """Runs in a child."""
        self._let_go()
        return ask_nodes(self._client), self._client.jobs(), self._cluster or self._client.cluster_name()

    def _targets(self) -> dict[str, Targets]:
        content = self._files.content
        if self._nodes and self._cluster:
            # What a sync would write: the same as the files say, but for the last minute.
            return make_plan(self._nodes, content, self._cluster, self._config).targets
        return {name: each for name, each in content.items() if each}


def _restore_nodes(answer: list[Any]) -> list[SlurmNode]:
    shared: dict[tuple[str, ...], tuple[str, ...]] = {}
    nodes = []
    for each in answer:
        node = SlurmNode(*each)
        partitions, features = tuple(node.partitions), tuple(node.features)
        # Most nodes have the same: once in memory is enough.
        nodes.append(
            node._replace(
                partitions=shared.setdefault(partitions, partitions), features=shared.setdefault(features, features)
            )
        )
    return nodes


def format_discovery(targets: dict[str, Targets]) -> bytes:
    """Give Prometheus' http_sd answer."""
    groups = [
        {"targets": [each.address], "labels": each.labels}
        for name in sorted(targets)
        for _, each in sorted(targets[name].items())
    ]
    return json.dumps(groups, separators=(",", ":")).encode()


def ask_prometheus(url: str) -> Exporters:
    """Ask which exporters Prometheus reaches: little is sent, however many nodes there are.

    Raises:
        PrometheusUnavailable, QueryRefused: Prometheus does not answer, or not this.
    """
    client = PrometheusClient(url, PROMETHEUS_S)
    up = {series.labels.get("exporter", "?"): int(series.value) for series in client.query(_UP)}
    down: dict[str, list[str]] = {}
    for series in client.query(_DOWN):
        down.setdefault(series.labels.get("exporter", "?"), []).append(series.labels.get("node", "?"))
    return Exporters(up, down)
