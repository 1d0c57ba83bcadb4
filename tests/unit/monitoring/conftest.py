"""What reads our metrics: a real node_exporter, and the parser of Prometheus' own Python client."""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families


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
