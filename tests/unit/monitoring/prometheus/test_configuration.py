"""The configuration that Prometheus gets, as Prometheus reads it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.monitoring.prometheus.configuration import SLURM_ENDPOINTS, PrometheusSetup, reachable


def make_setup(slurm_metrics: str = "", **values: Any) -> PrometheusSetup:
    settings = {name.replace("__", "."): value for name, value in values.items()}
    return PrometheusSetup(Config(settings), cluster="lab", head="head", slurm_metrics=slurm_metrics)


def jobs(setup: PrometheusSetup) -> dict[str, dict[str, Any]]:
    return {job["job_name"]: job for job in yaml.safe_load(setup.format_config())["scrape_configs"]}


@pytest.mark.parametrize(
    "setup",
    [
        pytest.param(make_setup(), id="defaults"),
        pytest.param(make_setup("head:6820"), id="slurm"),
        pytest.param(make_setup(monitoring__alertmanagers=["127.0.0.1:9093"]), id="alertmanager"),
        pytest.param(make_setup(monitoring__scrape_interval=0.5, monitoring__refresh_interval=1.0), id="in-a-hurry"),
        pytest.param(make_setup(monitoring__scrape_interval=90.0), id="at-leisure"),
        pytest.param(make_setup(fsx__root='/mnt/"fsx": #1'), id="an-odd-mount-point"),
    ],
)
def test_prometheus_takes_what_is_written(tmp_path: Path, setup: PrometheusSetup) -> None:
    if not shutil.which("promtool"):
        pytest.skip("needs promtool, of Debian's package prometheus")
    setup = setup.with_rules_at(str(tmp_path / "rules.yml"))
    Path(setup.rules_path).write_text(setup.format_rules())
    (tmp_path / "prometheus.yml").write_text(setup.format_config())
    done = subprocess.run(["promtool", "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_nodes_are_found_by_reading_again_not_by_being_told() -> None:
    [found] = jobs(make_setup(fsx__root="/shared"))["slurm-fsx"]["file_sd_configs"]
    assert found == {"files": ["/shared/monitoring/targets/*.json"], "refresh_interval": "30s"}


def test_what_metrics_say_of_themselves_is_kept() -> None:
    every = jobs(make_setup("head:6817"))
    assert {name for name, job in every.items() if not job.get("honor_labels")} == {"prometheus"}


def test_the_head_nodes_own_metrics_have_its_name_not_loopback() -> None:
    [target] = jobs(make_setup())["slurm-fsx-head"]["static_configs"]
    assert target["targets"] == ["127.0.0.1:9100"]
    assert target["labels"] == {
        "cluster": "lab",
        "exporter": "node_exporter",
        "instance": "head:9100",
        "node": "head",
    }


def test_slurm_is_asked_only_where_it_answers() -> None:
    assert set(jobs(make_setup())) == {"slurm-fsx", "slurm-fsx-head", "prometheus"}
    every = jobs(make_setup("head:6820"))
    asked = [job for name, job in every.items() if name.startswith("slurm-") and "fsx" not in name]
    assert [job["metrics_path"] for job in asked] == [f"/metrics/{endpoint}" for endpoint in SLURM_ENDPOINTS]
    assert [job["static_configs"] for job in asked] == [
        [{"targets": ["head:6820"], "labels": {"cluster": "lab"}}] for _ in SLURM_ENDPOINTS
    ]


def test_nodes_of_another_cluster_on_the_same_file_system_are_not_asked() -> None:
    keep = {"source_labels": ["cluster"], "regex": "lab", "action": "keep"}
    assert jobs(make_setup())["slurm-fsx"]["relabel_configs"] == [keep]
    added = yaml.safe_load(make_setup().format_addition())["scrape_configs"][0]
    assert "relabel_configs" not in added, "a site's own Prometheus may be one for all clusters"


def test_a_site_with_its_own_prometheus_adds_all_but_what_it_has() -> None:
    added = yaml.safe_load(make_setup().format_addition())
    assert set(added) == {"rule_files", "scrape_configs"}
    assert [job["job_name"] for job in added["scrape_configs"]] == ["slurm-fsx", "slurm-fsx-head"]
    assert added["scrape_configs"][1]["static_configs"][0]["targets"] == ["head:9100"]  # it may run elsewhere


def test_a_rate_is_taken_over_four_scrapes_or_more() -> None:
    assert "[60s]" in make_setup().format_rules()
    assert "[400s]" in make_setup(monitoring__scrape_interval=100.0).format_rules()


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:9090", "127.0.0.1:9090"),
        ("10.0.0.5:9091", "10.0.0.5:9091"),
        (":9090", "127.0.0.1:9090"),
        ("0.0.0.0:9090", "127.0.0.1:9090"),
        ("[::]:9090", "127.0.0.1:9090"),
    ],
)
def test_prometheus_finds_itself_wherever_it_listens(listen: str, address: str) -> None:
    assert reachable(listen) == address
