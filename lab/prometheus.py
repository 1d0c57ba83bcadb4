"""A real Prometheus on the head node, and a node_exporter on each compute node, on the cluster's own network.

with Prometheus.start(cluster) as prometheus:
    cluster.wait_until(lambda: prometheus.up() == {"n1", "n2"}, "both nodes up")
"""

from __future__ import annotations

import json
from types import TracebackType
from typing import NamedTuple

from .cluster import Cluster
from .errors import LabError
from .node import Daemon, Node

TARGETS = "/fsx/monitoring/targets"
NODE_EXPORTER_PORT = 9100

_PORT = 9090
_URL = f"http://127.0.0.1:{_PORT}"
_CONFIG = "/etc/prometheus/lab.yml"
# What an admin writes, but for the times: a test does not wait for a minute.
_SCRAPE = f"""\
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: slurm-fsx
    file_sd_configs:
      - files: ["{TARGETS}/*.json"]
        refresh_interval: 1s
"""


class Target(NamedTuple):
    """What Prometheus scrapes, as the metric ``up`` shows it."""

    instance: str  # n1:9100
    labels: dict[str, str]  # cluster, exporter and node among others
    is_up: bool


class Prometheus:
    """A running Prometheus; `Prometheus.start` makes one. It ends with the cluster, or with `stop`."""

    def __init__(self, head: Node, daemons: list[Daemon]) -> None:
        self._head = head
        self._daemons = daemons

    @classmethod
    def start(cls, cluster: Cluster) -> Prometheus:
        """Start Prometheus and the exporters, and wait until they answer.

        Raises:
            LabError: one of them did not start; the message ends with what it says.
        """
        cluster.head.write(_CONFIG, _SCRAPE)
        daemons = [
            cluster.head.start_daemon(
                "prometheus",
                [
                    "prometheus",
                    f"--config.file={_CONFIG}",
                    f"--web.listen-address=127.0.0.1:{_PORT}",
                    "--storage.tsdb.path=/var/lib/prometheus",
                ],
            )
        ]
        daemons += [node.start_daemon("node_exporter", _node_exporter(node)) for node in cluster.nodes.values()]
        prometheus = cls(cluster.head, daemons)
        try:
            cluster.wait_until(prometheus._is_ready, "Prometheus and the exporters ready")
        except LabError:
            logs = [cluster.head.log / "prometheus.out", *(n.log / "node_exporter.out" for n in cluster.nodes.values())]
            ends = [f"{log}: {line}" for log in logs for line in log.read_text(errors="replace").splitlines()[-3:]]
            prometheus.stop()
            raise LabError("\n".join(["Prometheus and its exporters did not start:", *ends])) from None
        return prometheus

    def stop(self) -> None:
        """Stop Prometheus and the exporters."""
        for daemon in self._daemons:
            daemon.stop()

    def __enter__(self) -> Prometheus:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def targets(self) -> list[Target]:
        """Ask what Prometheus scrapes now, in the order of their names."""
        done = self._head.run(["promtool", "query", "instant", "--format=json", _URL, "up"])
        if done.returncode != 0:
            raise LabError(f"Prometheus does not answer: {done.stderr.strip()}")
        found = []
        for series in json.loads(done.stdout) or ():
            labels = series["metric"]
            found.append(Target(labels["instance"], labels, series["value"][1] == "1"))
        return sorted(found)

    def up(self) -> set[str]:
        """The names of the nodes whose node_exporter is up."""
        return {
            target.labels["node"]
            for target in self.targets()
            if target.is_up and target.labels["exporter"] == "node_exporter"
        }

    def _is_ready(self) -> bool:
        if not all(daemon.is_running for daemon in self._daemons):
            raise LabError("ended at once")
        return self._head.run(["promtool", "query", "instant", _URL, "up"]).returncode == 0


def _node_exporter(node: Node) -> list[str]:
    """The command line. Few collectors: the others look for parts of a host that a node of the lab has not."""
    return [
        "prometheus-node-exporter",
        # All nodes share one network: each has its own address, and listens there only.
        f"--web.listen-address={node.name}:{NODE_EXPORTER_PORT}",
        "--collector.disable-defaults",
        *(f"--collector.{name}" for name in ("cpu", "loadavg", "meminfo", "uname")),
    ]
