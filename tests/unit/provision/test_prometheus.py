"""Setting Prometheus up in a root folder of its own; on a running head node it is tried in tests/cluster."""

from __future__ import annotations

import hashlib
import shutil
import socket
import subprocess
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.monitoring.prometheus.configuration import PrometheusSetup
from slurm_fsx_tools.provision import prometheus
from slurm_fsx_tools.provision.prometheus import (
    InvalidPrometheusConfig,
    Place,
    PrometheusMissing,
    SomebodyElses,
    answers_with_metrics,
    check_with_promtool,
    plan_prometheus,
    set_up_prometheus,
)
from slurm_fsx_tools.provision.steps import Record, undo

DROP_IN = "etc/systemd/system/prometheus.service.d/50-slurm-fsx.conf"
UNIT = "etc/systemd/system/prometheus.service"
CONFIG = "etc/prometheus/prometheus.yml"
RULES = "etc/prometheus/slurm-fsx.rules.yml"

PACKAGED = "# as the package brings it\n"


class Programs:
    """The folder of programs that PATH names; each is a shell script."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, script: str = "exit 0") -> None:
        (self.folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.folder / name).chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """A system without Prometheus, apt-get and dpkg, until a test adds them."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(
        prometheus, "find_program", lambda name, root="/": shutil.which(name, path=str(tmp_path / "bin"))
    )
    return Programs(tmp_path / "bin")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root/etc/systemd/system").mkdir(parents=True)
    (tmp_path / "root/etc/default").mkdir()
    return tmp_path / "root"


def make_setup(**values: Any) -> PrometheusSetup:
    settings = {name.replace("__", "."): value for name, value in values.items()}
    return PrometheusSetup(Config(settings), cluster="lab", head="head")


def package(root: Path, programs: Programs) -> None:
    """Have the system's package be installed, as Debian's is."""
    programs.add("prometheus")
    (root / "usr/lib/systemd/system").mkdir(parents=True)
    (root / "usr/lib/systemd/system/prometheus.service").write_text(
        "[Service]\nExecStart=/usr/bin/prometheus $ARGS\n[Install]\nWantedBy=multi-user.target\n"
    )
    (root / "etc/prometheus").mkdir()
    (root / CONFIG).write_text(PACKAGED)
    digest = hashlib.md5(PACKAGED.encode()).hexdigest()
    programs.add("dpkg-query", f"echo ' /etc/default/prometheus 0\n /{CONFIG} {digest}'")


def apply(root: Path, setup: PrometheusSetup | None = None, force: bool = False) -> list[str]:
    with Record.open("prometheus", str(root)) as record:
        outcome = set_up_prometheus(setup or make_setup(), record, force=force)
    assert not outcome.failed, outcome
    return [event.step for event in outcome.of("changed")]


SLURMS_ANSWER = "# HELP slurm_jobs Total number of jobs\n# TYPE slurm_jobs gauge\nslurm_jobs 1\n"


@pytest.mark.parametrize(
    ("status", "body", "answers"),
    [
        pytest.param(200, SLURMS_ANSWER, True, id="26.05"),
        pytest.param(404, "NOT FOUND", False, id="without-MetricsType"),
        pytest.param(200, "<html>Welcome</html>", False, id="something-else"),
        pytest.param(500, SLURMS_ANSWER, False, id="broken"),
    ],
)
def test_slurm_has_metrics_where_it_answers_with_its_own(status: int, body: str, answers: bool) -> None:
    class Slurmctld(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/metrics/jobs" else 404)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Slurmctld) as server:
        thread = Thread(target=server.handle_request)
        thread.start()
        assert answers_with_metrics(f"127.0.0.1:{server.server_port}") == answers
        thread.join()


@pytest.mark.parametrize(
    "says", [pytest.param(b"", id="nothing"), pytest.param(b"\0\0\x30\1", id="slurms-own-protocol")]
)
def test_an_older_slurmctld_has_none(says: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 12)
                connection.sendall(says)

        thread = Thread(target=hang_up)
        thread.start()
        assert not answers_with_metrics(f"127.0.0.1:{server.getsockname()[1]}")
        thread.join()


def test_a_packaged_prometheus_gets_its_flags_by_a_drop_in(root: Path, programs: Programs) -> None:
    package(root, programs)
    apply(root, make_setup(monitoring__retention=7.0))
    lines = (root / DROP_IN).read_text().splitlines()
    assert lines[1:3] == ["[Service]", "ExecStart="]
    assert lines[3].endswith(
        "/prometheus --config.file=/etc/prometheus/prometheus.yml --storage.tsdb.retention.time=168h"
        " --web.listen-address=127.0.0.1:9090 $ARGS"
    )
    assert "job_name: slurm-fsx" in (root / CONFIG).read_text()
    assert not (root / UNIT).exists()


def test_flags_that_the_admin_has_set_for_the_package_stay_theirs(root: Path, programs: Programs) -> None:
    package(root, programs)
    (root / "etc/default/prometheus").write_text(
        '# --config.file=x\nARGS="--web.listen-address=10.0.0.1:9090 --storage.tsdb.retention.time 90d"\n'
    )
    apply(root)
    command = (root / DROP_IN).read_text().splitlines()[3]
    assert "--config.file=" in command
    assert "--web.listen-address" not in command
    assert "retention" not in command


def test_a_binary_without_a_package_gets_a_unit(root: Path, programs: Programs) -> None:
    programs.add("prometheus")
    apply(root)
    unit = (root / UNIT).read_text()
    assert f"ExecStart={programs.folder}/prometheus --config.file=/etc/prometheus/prometheus.yml" in unit
    assert not (root / DROP_IN).exists()
    if shutil.which("systemd-analyze", path="/usr/bin:/bin"):
        done = subprocess.run(
            ["/usr/bin/systemd-analyze", "verify", "--man=no", root / UNIT], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


def test_without_a_package_or_a_binary_an_admin_is_told_what_to_put_where(root: Path, programs: Programs) -> None:
    with pytest.raises(PrometheusMissing, match="into /usr/local/bin"):
        apply(root)
    programs.add("apt-get")
    assert Place.find(str(root)).is_packaged


def test_the_same_again_changes_nothing(root: Path, programs: Programs) -> None:
    package(root, programs)
    assert f"file /{CONFIG}" in apply(root)
    assert apply(root) == []
    changed = apply(root, make_setup(monitoring__scrape_interval=60.0))
    assert changed == [f"file /{RULES}", f"file /{CONFIG}"]


def test_what_the_package_brought_is_nobodys_work(root: Path, programs: Programs) -> None:
    package(root, programs)
    apply(root)
    assert "job_name: slurm-fsx" in (root / CONFIG).read_text()
    assert [path.read_text() for path in (root / "etc/prometheus").glob("*backup*")] == [PACKAGED]


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_somebody_has_changed_is_replaced_by_force_alone(root: Path, programs: Programs, when: str) -> None:
    package(root, programs)
    if when == "after":
        apply(root)
    (root / CONFIG).write_text("global: {}\n")
    with pytest.raises(SomebodyElses, match=f"{CONFIG} is"):
        apply(root)
    assert (root / CONFIG).read_text() == "global: {}\n"
    assert (root / DROP_IN).exists() == (when == "after")
    apply(root, force=True)
    assert "job_name: slurm-fsx" in (root / CONFIG).read_text()
    assert "global: {}\n" in [path.read_text() for path in (root / "etc/prometheus").glob("*backup*")]


def test_nothing_takes_its_place_that_promtool_refuses(root: Path, programs: Programs) -> None:
    package(root, programs)
    apply(root)
    before = (root / CONFIG).read_text()
    programs.add("promtool", "echo '  FAILED: parsing YAML file: not this'; exit 1")
    with pytest.raises(InvalidPrometheusConfig, match=r"promtool does not take what .*: not this"):
        apply(root, make_setup(monitoring__scrape_interval=60.0))
    assert (root / CONFIG).read_text() == before


def test_the_real_promtool_refuses_what_prometheus_could_not_use() -> None:
    if not shutil.which("promtool"):
        pytest.skip("needs promtool, of Debian's package prometheus")
    assert check_with_promtool(make_setup())
    with pytest.raises(InvalidPrometheusConfig, match="is not a valid hostname"):
        check_with_promtool(make_setup(monitoring__alertmanagers=["http://127.0.0.1:9093/"]))


def test_a_plan_changes_nothing(root: Path, programs: Programs) -> None:
    package(root, programs)
    before = sorted(path.relative_to(root) for path in root.rglob("*"))
    changes = plan_prometheus(make_setup(), Record.read("prometheus", str(root)))
    assert [change.step for change in changes if change.diff] == [f"file /{path}" for path in (DROP_IN, RULES, CONFIG)]
    assert sorted(path.relative_to(root) for path in root.rglob("*")) == before


def test_undo_gives_the_package_its_own_configuration_back(root: Path, programs: Programs) -> None:
    package(root, programs)
    apply(root)
    with Record.open("prometheus", str(root)) as record:
        undo(record)
    assert (root / CONFIG).read_text() == PACKAGED
    assert not (root / RULES).exists()
    assert not (root / DROP_IN).parent.exists()
