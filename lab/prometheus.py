"""A real Prometheus on the head node, and a node_exporter on every machine, on the cluster's own network.

with Prometheus.start(cluster) as prometheus:
    cluster.wait_until(lambda: prometheus.up() == {"n1", "n2"}, "both nodes up")
    assert prometheus.query("count(node_load1)") == [Sample({}, 2.0)]
"""

from __future__ import annotations

import json
import os
import shlex
import signal
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from .cluster import HOME, Cluster
from .errors import LabError
from .node import Daemon, Node
from .node_root import Bind

JOB = "slurm-fsx"
TARGETS = "/fsx/monitoring/targets"
TEXTFILES = "/var/lib/prometheus/node-exporter"
NODE_EXPORTER_PORT = 9100

_DROP_IN = "/etc/systemd/system/prometheus.service.d/50-slurm-fsx.conf"
_PORT = 9090
_URL = f"http://127.0.0.1:{_PORT}"
_LAB_CONFIG = "/etc/prometheus/lab.yml"
# What an admin writes, but for the times: a test does not wait for a minute.
_SCRAPE = f"""\
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: {JOB}
    file_sd_configs:
      - files: ["{TARGETS}/*.json"]
        refresh_interval: 1s
    honor_labels: true
"""


class Sample(NamedTuple):
    """A series of a query's answer, and its value."""

    labels: dict[str, str]
    value: float


class Target(NamedTuple):
    """What Prometheus scrapes, as the metric ``up`` shows it."""

    instance: str  # n1:9100
    labels: dict[str, str]  # cluster, exporter and node among others
    is_up: bool


class Prometheus:
    """A running Prometheus; `Prometheus.start` makes one. It ends with the cluster, or with `stop`."""

    def __init__(self, cluster: Cluster, flags: Sequence[str]) -> None:
        self._cluster = cluster
        self._head = cluster.head
        self._flags = list(flags)
        self._server: Daemon | None = None
        self._exporters: dict[str, Daemon] = {}

    @classmethod
    def start(cls, cluster: Cluster, flags: Sequence[str] = ()) -> Prometheus:
        """Start Prometheus and the exporters, and wait until they answer.

        Args:
            cluster: Where they run.
            flags: Prometheus' command line, with the configuration and address; a short one of the lab's own unless
                told.

        Raises:
            LabError: one of them did not start; the message ends with what it says.
        """
        if not flags:
            cluster.head.write(_LAB_CONFIG, _SCRAPE)
            flags = [f"--config.file={_LAB_CONFIG}", f"--web.listen-address=127.0.0.1:{_PORT}"]
        prometheus = cls(cluster, flags)
        try:
            for machine in cluster.machines:
                prometheus.start_exporter(machine.name)
            prometheus.go_on()
        except LabError:
            prometheus.stop()
            raise
        return prometheus

    @classmethod
    def install(cls, cluster: Cluster) -> Prometheus:
        """Start what ``slurm-fsx monitoring install`` sets up on the head node, as systemd would: the lab has none.

        The cluster is to know its packages: see `package_database`.

        Raises:
            LabError: it was not set up, or did not start.
        """
        done = cluster.head.run([f"{HOME}/bin/slurm-fsx", "monitoring", "install"])
        if done.returncode != 0:
            raise LabError(f"slurm-fsx monitoring install: {done.stdout.strip()} {done.stderr.strip()}")
        lines = cluster.head.path(_DROP_IN).read_text().splitlines()
        command = next(line for line in reversed(lines) if line.startswith("ExecStart="))
        words = shlex.split(command.partition("=")[2])
        return cls.start(cluster, [word for word in words[1:] if word != "$ARGS"])

    def go_on(self) -> None:
        """Start Prometheus itself, after `stop_server`, with the samples that it had.

        Raises:
            LabError: it, or an exporter, does not run; the message ends with what it says.
        """
        self._server = self._head.start_daemon(
            "prometheus",
            ["prometheus", *self._flags, "--storage.tsdb.path=/var/lib/prometheus/metrics2"],
        )
        try:
            self._cluster.wait_until(self._is_ready, "Prometheus and the exporters ready")
        except LabError:
            logs = [self._head.log / "prometheus.out"]
            logs += [self._cluster.machine(name).log / "node_exporter.out" for name in self._exporters]
            ends = [f"{log}: {line}" for log in logs for line in log.read_text(errors="replace").splitlines()[-3:]]
            raise LabError("\n".join(["Prometheus and its exporters did not start:", *ends])) from None

    def start_exporter(self, machine: str) -> Daemon:
        """Start the node_exporter of a machine, after ``exporter(machine).stop()``; give it."""
        self._exporters[machine] = start_node_exporter(self._cluster.machine(machine))
        return self._exporters[machine]

    def exporter(self, machine: str) -> Daemon:
        """The node_exporter of a machine."""
        return self._exporters[machine]

    def stop_server(self) -> None:
        """Stop Prometheus itself; the exporters go on."""
        if self._server is not None:
            self._server.stop()

    def reload(self) -> None:
        """Have Prometheus read its configuration again."""
        assert self._server is not None
        os.kill(self._server.pid, signal.SIGHUP)

    def stop(self) -> None:
        """Stop Prometheus and the exporters."""
        self.stop_server()
        for daemon in self._exporters.values():
            daemon.stop()

    def __enter__(self) -> Prometheus:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def query(self, expression: str) -> list[Sample]:
        """Ask Prometheus for an instant vector, in the order of the labels.

        Raises:
            LabError: Prometheus does not answer, or refuses the expression.
        """
        done = self._head.run(["promtool", "query", "instant", "--format=json", _URL, expression])
        if done.returncode != 0:
            raise LabError(f"Prometheus does not answer {expression}: {done.stderr.strip()}")
        found = [Sample(series["metric"], float(series["value"][1])) for series in json.loads(done.stdout) or ()]
        return sorted(found, key=lambda sample: sorted(sample.labels.items()))

    def targets(self) -> list[Target]:
        """Ask what Prometheus scrapes of the compute nodes, in the order of their names."""
        samples = self.query(f'up{{job="{JOB}"}}')
        found = [Target(sample.labels["instance"], sample.labels, sample.value == 1) for sample in samples]
        # A target whose labels have changed is there twice for a moment.
        return sorted(found, key=lambda target: (target.instance, sorted(target.labels.items())))

    def up(self) -> set[str]:
        """The names of the nodes whose node_exporter is up."""
        return {
            target.labels["node"]
            for target in self.targets()
            if target.is_up and target.labels["exporter"] == "node_exporter"
        }

    def _is_ready(self) -> bool:
        if not all(daemon is not None and daemon.is_running for daemon in (self._server, *self._exporters.values())):
            raise LabError("ended at once")
        return self._head.run(["promtool", "query", "instant", _URL, "up"]).returncode == 0


def package_database(system: Path = Path("/")) -> Bind:
    """What a cluster's ``binds`` need, so that its machines know which packages there are, and install none."""
    return Bind(str(system / "var/lib/dpkg"), "/var/lib/dpkg", read_only=True)


def start_node_exporter(node: Node) -> Daemon:
    """Start the node_exporter of a machine that no `Prometheus` has one for; it ends with the machine."""
    node.path(TEXTFILES).mkdir(parents=True, exist_ok=True)
    return node.start_daemon("node_exporter", _node_exporter(node))


def _node_exporter(node: Node) -> list[str]:
    """The command line. Few collectors: the others look for parts of a host that a node of the lab has not."""
    # All nodes share one network: each has its own address, and listens there only; loopback is the head node's.
    addresses = [node.name, "127.0.0.1"] if node.name == "head" else [node.name]
    return [
        "prometheus-node-exporter",
        *(f"--web.listen-address={address}:{NODE_EXPORTER_PORT}" for address in addresses),
        "--collector.disable-defaults",
        *(f"--collector.{name}" for name in ("cpu", "filesystem", "loadavg", "meminfo", "textfile", "uname")),
        f"--collector.textfile.directory={TEXTFILES}",
    ]
