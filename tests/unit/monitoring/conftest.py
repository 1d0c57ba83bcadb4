"""A shared file system, a node, programs that listen on it, a Slurm, and what reads our metrics."""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.errors import SlurmUnavailable
from slurm_fsx_tools.slurm_state import SlurmJob, SlurmNode


@pytest.fixture
def fsx(tmp_path: Path) -> Path:
    """A shared file system on which the head node's set-up has run."""
    (tmp_path / "fsx/monitoring/targets").mkdir(parents=True)
    return tmp_path / "fsx"


@pytest.fixture
def config(tmp_path: Path, fsx: Path) -> Config:
    """A configuration of that file system, with a runtime folder that a prolog has made."""
    (tmp_path / "run").mkdir()
    values = {"runtime_dir": "run", "monitoring.state_dir": "state", "monitoring.textfile_dir": "textfiles"}
    folders = {key: str(tmp_path / name) for key, name in values.items()}
    return Config({"fsx.root": str(fsx), "fsx.timeout": 5.0, **folders})


@pytest.fixture
def listen() -> Iterator[Callable[[], int]]:
    """Open a port that takes connections, and give its number."""
    with ExitStack() as stack:

        def open_port() -> int:
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            return int(server.getsockname()[1])

        yield open_port


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that nobody listens on, and nobody else can take."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


class Slurm:
    """A Slurm controller as a client shows it: nodes and jobs that a test changes.

    A real one is asked in tests/cluster; it has neither ten thousand nodes nor half an answer.
    """

    def __init__(self, *nodes: SlurmNode) -> None:
        self.known = {node.name: node for node in nodes}
        self.queue: list[SlurmJob] = []
        self.name = "train"
        self.is_away = False

    def set(self, name: str, **changes: object) -> None:
        self.known[name] = self.known[name]._replace(**changes)  # type: ignore[arg-type]

    def nodes(self) -> list[SlurmNode]:
        self._answer()
        return list(self.known.values())

    def jobs(self) -> list[SlurmJob]:
        self._answer()
        return list(self.queue)

    def active_jobs(self) -> dict[int, int]:
        self._answer()
        return {job.id: job.uid for job in self.queue}

    def cluster_name(self) -> str:
        return "" if self.is_away else self.name

    def _answer(self) -> None:
        if self.is_away:
            raise SlurmUnavailable("slurmctld does not answer", hint="see: scontrol ping")


@pytest.fixture
def slurm() -> Slurm:
    """Three nodes: one with GPUs, as ParallelCluster makes them."""
    return Slurm(
        SlurmNode("gpu-1", "idle", "", "gpu", 8, ("all", "gpu"), ("static", "p5.48xlarge", "gpu-cr")),
        SlurmNode("cpu-1", "mixed", "", "all", 0, ("all",)),
        SlurmNode("cpu-2", "idle", "", "all", 0, ("all",)),
    )


class NodeExporter:
    """A node_exporter that reads one folder, and what it says of its metrics."""

    def __init__(self, folder: Path, log: Path) -> None:
        self.folder = folder
        self._log = log
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._address = f"127.0.0.1:{free.getsockname()[1]}"
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [
                    "prometheus-node-exporter",
                    f"--web.listen-address={self._address}",
                    "--web.disable-exporter-metrics",
                    "--collector.disable-defaults",
                    "--collector.textfile",
                    f"--collector.textfile.directory={folder}",
                ],
                stderr=out,
            )
        end = time.monotonic() + 60
        while not self._answers():
            assert self._process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            socket.create_connection(tuple(self._address.split(":"))).close()  # type: ignore[arg-type]
        except OSError:
            return False
        return True

    def scrape(self) -> str:
        """Give what Prometheus would read; fails where it would read nothing."""
        with urllib.request.urlopen(f"http://{self._address}/metrics", timeout=60) as answer:
            return str(answer.read().decode())

    def samples(self, name: str) -> list[tuple[dict[str, str], float]]:
        """Give the labels and values of a metric's samples."""
        return [
            (sample.labels, sample.value)
            for family in text_string_to_metric_families(self.scrape())
            for sample in family.samples
            if sample.name == name
        ]

    def complaints(self) -> str:
        """What it has logged of files that it does not like, up to now."""
        self.scrape()
        lines = self._log.read_text().splitlines()
        return "\n".join(line for line in lines if "level=error" in line)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


@pytest.fixture
def textfile_dir(tmp_path: Path) -> Path:
    """A folder of metrics that is not there yet."""
    return tmp_path / "lib/node-exporter"


@pytest.fixture
def node_exporter(textfile_dir: Path, tmp_path: Path) -> Iterator[NodeExporter]:
    exporter = NodeExporter(textfile_dir, tmp_path / "node_exporter.log")
    yield exporter
    exporter.stop()
