"""Checks of metrics, with a real node_exporter and a real Prometheus on loopback."""

from __future__ import annotations

import contextlib
import http.server
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm_fsx_tools.counters import count
from slurm_fsx_tools.monitoring.on_head.head_metrics import write_head_metrics, write_sync_metrics
from slurm_fsx_tools.monitoring.on_node.health_metrics import publish_health
from slurm_fsx_tools.provision.doctor.findings import NOTE, PROBLEM, UNKNOWN, WARNING
from slurm_fsx_tools.provision.doctor.monitoring import parse_metrics, quantile

from .conftest import Machine


def free_port() -> int:
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        port: int = each.getsockname()[1]
        return port


@contextlib.contextmanager
def running(command: list[str], url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until it answers, and end it afterwards."""
    if not shutil.which(command[0]):
        pytest.skip(f"needs {command[0]}")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 60
            while True:
                with contextlib.suppress(OSError), urllib.request.urlopen(url) as answer:
                    answer.read()
                    break
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


def node_exporter(machine: Machine, *options: str) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    port = free_port()
    machine.values["monitoring.node_exporter_port"] = port
    command = ["prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{port}", "--collector.disable-defaults"]
    return running([*command, "--collector.uname", *options], f"http://127.0.0.1:{port}/metrics")


@pytest.fixture
def textfiles(machine: Machine, tmp_path: Path) -> Path:
    folder = tmp_path / "textfiles"
    folder.mkdir()
    machine.values["monitoring.textfile_dir"] = str(folder)
    return folder


def register(machine: Machine, *exporters: str) -> None:
    folder = machine.fsx / "monitoring/targets"
    folder.mkdir(parents=True, exist_ok=True)
    groups = [{"targets": ["localhost:1"], "labels": {"exporter": name, "node": "localhost"}} for name in exporters]
    (folder / "localhost.json").write_text(json.dumps(groups))


def test_an_exporter_that_answers_reads_textfiles_and_is_registered_is_well(machine: Machine, textfiles: Path) -> None:
    register(machine, "node_exporter")
    (textfiles / "slurm_fsx_health.prom").write_text("x 1\n")
    with node_exporter(machine, "--collector.textfile", f"--collector.textfile.directory={textfiles}"):
        assert not machine.find("exporters", "targets")


def test_a_killed_exporter_is_told_with_what_restarts_it(machine: Machine, textfiles: Path) -> None:
    with node_exporter(machine, "--collector.textfile", f"--collector.textfile.directory={textfiles}") as process:
        process.kill()
        process.wait()
        (finding,) = machine.find("exporters")
    assert finding.severity == WARNING
    assert "node_exporter on localhost:" in finding.finding
    assert "Connection refused" in finding.finding
    assert finding.command == "systemctl restart prometheus-node-exporter"


def test_an_exporter_without_textfiles_or_with_a_broken_one_is_told(machine: Machine, textfiles: Path) -> None:
    with node_exporter(machine):
        assert machine.texts("exporters") == [f"node_exporter on localhost does not read {textfiles}."]
    ours = textfiles / "slurm_fsx_health.prom"
    ours.write_text("this is no metric\n")
    with node_exporter(machine, "--collector.textfile", f"--collector.textfile.directory={textfiles}"):
        assert machine.texts("exporters") == [f"node_exporter on localhost cannot read {ours}."]
        ours.unlink()
        (textfiles / "good.prom").write_text("x 1\n")
        (textfiles / "site.prom").write_text("{\n")
        (finding,) = machine.find("exporters")
    assert finding.finding == f"node_exporter on localhost cannot read {textfiles}/site.prom."
    assert finding.command.startswith("journalctl --unit prometheus-node-exporter ")


@pytest.mark.parametrize(
    ("unit", "has_package", "command"),
    [
        pytest.param("node_exporter.service", True, "systemctl restart node_exporter", id="a-unit"),
        pytest.param("", True, "apt-get install prometheus-node-exporter", id="a-package"),
        pytest.param("", False, "", id="neither"),
    ],
)
def test_what_is_not_installed_is_not_to_be_restarted(
    machine: Machine, unit: str, has_package: bool, command: str
) -> None:
    machine.facts["exporters"] = [["node_exporter", 9100, "no answer: Connection refused", None, unit, has_package]]
    (finding,) = machine.find("exporters")
    assert finding.command == command
    assert ("set monitoring.enabled to false" in finding.why) == (not unit)


def test_an_exporter_that_prometheus_is_not_told_of_can_be_registered(machine: Machine, textfiles: Path) -> None:
    with node_exporter(machine):
        (finding,) = machine.find("targets")
        assert (finding.command, finding.is_safe) == ("slurm-fsx monitoring register", True)
        register(machine, "other")
        assert machine.find("targets")
        register(machine, "node_exporter")
        assert not machine.find("targets")


def test_a_file_of_targets_that_is_broken_is_named(machine: Machine) -> None:
    machine.facts["exporters"] = [["node_exporter", 9100, "", [], "", False]]
    register(machine)
    (machine.fsx / "monitoring/targets/localhost.json").write_text("{")
    (finding,) = machine.find("targets")
    assert finding.severity == UNKNOWN
    assert "is not what Prometheus reads" in finding.finding


def test_a_dcgm_exporter_that_a_job_written_twice_has_broken_is_told(machine: Machine) -> None:
    machine.values["monitoring.gpu_mapping_dir"] = "/run/jobs"
    machine.facts["exporters"] = [["dcgm-exporter", 9400, "/metrics gives 500", None, "", False]]
    (finding,) = machine.find("exporters")
    assert (finding.severity, finding.command) == (PROBLEM, "find /run/jobs -type f -delete")


def test_switched_off_monitoring_needs_no_exporter(machine: Machine) -> None:
    machine.values["monitoring.enabled"] = False
    machine.values["monitoring.node_exporter_port"] = free_port()
    machine.values["monitoring.prometheus_url"] = f"http://127.0.0.1:{free_port()}"
    assert not machine.find("exporters", "targets", "targets-synced", "prometheus", "prolog-trend")


def test_targets_that_are_compared_with_slurms_nodes_are_well(machine: Machine, textfiles: Path) -> None:
    assert machine.texts("targets-synced") == ["Prometheus' targets have never been compared with Slurm's nodes here."]
    config = machine.context.config
    write_head_metrics(config, [], [], 0, {}, time.time())
    write_sync_metrics(config, success=True)
    assert not machine.find("targets-synced")
    write_sync_metrics(config, success=False)
    assert "0 minutes ago" in machine.texts("targets-synced")[0]
    write_head_metrics(config, [], [], 0, {}, time.time() - 3600)
    write_sync_metrics(config, success=True)
    assert "60 minutes ago" in machine.texts("targets-synced")[0]


def test_prometheus_tells_which_nodes_it_cannot_reach(machine: Machine, tmp_path: Path) -> None:
    port, dead = free_port(), free_port()
    scrape = {
        "job_name": "slurm-fsx",
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "static_configs": [
            {
                "targets": [f"127.0.0.1:{dead}", f"localhost:{dead}"],
                "labels": {"exporter": "node_exporter", "node": "n1"},
            }
        ],
    }
    (tmp_path / "prometheus.yml").write_text(json.dumps({"scrape_configs": [scrape]}))
    machine.values["monitoring.prometheus_url"] = f"http://127.0.0.1:{port}"
    command = [
        *("prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"),
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with running(command, f"http://127.0.0.1:{port}/-/ready"):
        deadline = time.monotonic() + 60
        while not (found := machine.find("prometheus")) or "cannot be asked" in found[0].finding:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert not machine.find("prolog-trend")
    assert found[0].finding == "Prometheus cannot reach node_exporter on n1."
    assert str(dead) in found[0].why


def test_a_prometheus_that_is_away_is_told(machine: Machine) -> None:
    machine.values["monitoring.prometheus_url"] = f"http://127.0.0.1:{free_port()}"
    away, trend = machine.find("prometheus", "prolog-trend")
    assert "Connection refused" in away.finding
    assert trend.severity == UNKNOWN


def test_a_prometheus_that_hangs_is_told() -> None:
    # It takes the connection, and no more.
    with socket.create_server(("127.0.0.1", 0)) as server:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            machine = Machine(Path(folder))
            machine.values["monitoring.prometheus_url"] = f"http://127.0.0.1:{server.getsockname()[1]}"
            (finding,) = machine.find("prometheus")
    assert "within 2 s" in finding.finding


class Answers(http.server.BaseHTTPRequestHandler):
    """Prometheus's answers to questions about durations: nothing real here has a day's samples."""

    def do_POST(self) -> None:
        query = self.rfile.read(int(self.headers["Content-Length"])).decode()
        value = "0.2" if "offset" in query else "1.4"
        result = [{"metric": {}, "value": [0, value]}] if "histogram_quantile" in query else []
        answer = {"status": "success", "data": {"resultType": "vector", "result": result}}
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def test_prologs_that_get_slower_are_told_before_they_are_cut_off(machine: Machine) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        machine.values["monitoring.prometheus_url"] = f"http://127.0.0.1:{server.server_port}"
        found = machine.texts("prolog-trend", "prometheus")
        server.shutdown()
    assert found == [
        "Prologs have become slower: 95 % ended within 0.2 s in the day before, and within 1.4 s in the last hour."
    ]


@pytest.mark.parametrize(
    ("fast", "slow", "failed", "said"),
    [
        pytest.param(100, 0, 0, [], id="fast"),
        pytest.param(96, 4, 0, [], id="few-slow"),
        pytest.param(90, 10, 0, [(WARNING, "5 % of the prologs on this node took more than 5 s.")], id="slow"),
        pytest.param(199, 0, 1, [(NOTE, "A prolog went on without a part of its work once since")], id="failed-open"),
        pytest.param(1, 0, 1, [(NOTE, "A prolog went on without a part of its work once since")], id="after-a-boot"),
        pytest.param(97, 0, 3, [(WARNING, "A prolog went on without a part of its work 3 times")], id="failed-often"),
    ],
)
def test_prologs_tell_how_they_fared(
    machine: Machine, textfiles: Path, fast: int, slow: int, failed: int, said: list[tuple[str, str]]
) -> None:
    for duration_s, number, is_failed in ((0.06, fast, False), (7.0, slow, False), (0.06, failed, True)):
        for _ in range(number):
            count(str(machine.run), "prolog", duration_s, is_failed)
    publish_health(machine.context.config)
    found = machine.find("prolog-duration")
    assert [(each.severity, each.finding[: len(text)]) for each, (_, text) in zip(found, said)] == said
    assert len(found) == len(said)


def test_a_node_without_prologs_yet_is_well(machine: Machine, textfiles: Path) -> None:
    assert not machine.find("prolog-duration")


def test_metrics_and_quantiles_are_read() -> None:
    text = '# x\na{le="1",n="}"} 2\nb 3\na 4e1 123\n'
    assert parse_metrics(text, ["a"]) == [("a", {"le": "1", "n": "}"}, 2.0), ("a", {}, 40.0)]
    infinite = float("inf")
    assert quantile([(1, 95), (infinite, 100)], 0.95) == 1
    assert quantile([(1, 94), (infinite, 100)], 0.95) == infinite
    assert quantile([], 0.95) is None
    assert quantile([(infinite, 0)], 0.95) is None
