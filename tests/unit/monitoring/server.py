"""A real Prometheus for a test."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from slurm_fsx_tools.monitoring.prometheus.query import PrometheusClient, PrometheusUnavailable

_START_S = 30.0


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def run_prometheus(folder: Path, samples: str = "") -> Iterator[PrometheusClient]:
    """Run a Prometheus that watches itself, and remembers samples that are given in OpenMetrics' format.

    Raises:
        AssertionError: it did not come up; the message ends with what it says.
    """
    port = free_port()
    (folder / "p.yml").write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        f"scrape_configs: [{{job_name: self, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]\n"
    )
    if samples:
        (folder / "samples").write_text(samples)
        fill = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(folder / "samples"), str(folder / "data")]
        subprocess.run(fill, check=True, capture_output=True)
    command = ["prometheus", f"--config.file={folder}/p.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stderr=log, stdout=log)
    try:
        client = PrometheusClient(f"http://127.0.0.1:{port}/")
        end_s = time.monotonic() + _START_S
        while not _is_up(client):
            assert time.monotonic() < end_s, (folder / "log").read_text()[-2000:]
            time.sleep(0.1)
        yield client
    finally:
        process.terminate()
        process.wait()


def _is_up(client: PrometheusClient) -> bool:
    try:
        return bool(client.query("up == 1"))
    except PrometheusUnavailable:
        return False
