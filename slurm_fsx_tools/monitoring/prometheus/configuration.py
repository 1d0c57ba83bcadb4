"""Prometheus' configuration and rules, written from the product's own.

Source: prometheus.io, Configuration; Recording rules; Alerting rules. What is written here is read by Prometheus 2.30
and newer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .. import targets
from .alerts import alerts
from .rules import JOB, recording_rules

if TYPE_CHECKING:
    from ...config.model import Config

FOLDER = "/etc/prometheus"
CONFIG_FILE = "prometheus.yml"
RULES_FILE = "slurm-fsx.rules.yml"

SLURM_ENDPOINTS = ("jobs", "nodes", "partitions", "jobs-users-accts", "scheduler")
"""What slurmctld answers below ``/metrics/`` where slurm.conf has ``MetricsType=metrics/openmetrics``, and, up to now,
no ``PrivateData``. Source: slurm.schedmd.com, Metrics Guide; seen on 26.05."""

_SLURM_INTERVAL_S = 60
_HEADER = "# Written by slurm-fsx monitoring install from {source}: change that, and run it again.\n"


@dataclass(frozen=True)
class PrometheusSetup:
    """What Prometheus' configuration depends on.

    Attributes:
        config: The product's configuration.
        cluster: The cluster's name, as its nodes' metrics have it.
        head: The head node's name, as its metrics shall have it.
        slurm_metrics: ``HOST:PORT`` where slurmctld answers with metrics; empty where it does not.
        rules_path: Where the file of rules is.
    """

    config: Config
    cluster: str
    head: str
    slurm_metrics: str = ""
    rules_path: str = f"{FOLDER}/{RULES_FILE}"

    def format_config(self) -> str:
        """Give prometheus.yml."""
        interval = _seconds(self.config["monitoring.scrape_interval"])
        content: dict[str, Any] = {
            "global": {
                "scrape_interval": interval,
                "scrape_timeout": _seconds(min(self.config["monitoring.scrape_interval"], 10)),
                "evaluation_interval": interval,
            },
            "rule_files": [self.rules_path],
        }
        if self.config["monitoring.alertmanagers"]:
            content["alerting"] = {
                "alertmanagers": [{"static_configs": [{"targets": list(self.config["monitoring.alertmanagers"])}]}]
            }
        content["scrape_configs"] = [*self.scrape_jobs("127.0.0.1", self.cluster), self._own_job()]
        return _HEADER.format(source=self.config.path or "its defaults") + _dump(content)

    def format_addition(self) -> str:
        """Give what a site adds to the configuration of a Prometheus of its own."""
        content = {"rule_files": [self.rules_path], "scrape_configs": self.scrape_jobs(self.head)}
        return "# Add to prometheus.yml, each list to the one of its name:\n" + _dump(content)

    def format_rules(self) -> str:
        """Give the file of recording and alerting rules."""
        window_s = max(60, 4 * round(self.config["monitoring.scrape_interval"]))
        groups = [
            # In one group, since each may build on those before it, which are evaluated first.
            {"name": "slurm-fsx", "rules": [rule.as_yaml() for rule in recording_rules(window_s)]},
            {"name": "slurm-fsx-alerts", "rules": [alert.as_yaml() for alert in alerts(self.config["fsx.root"])]},
        ]
        return _HEADER.format(source=self.config.path or "its defaults") + _dump({"groups": groups})

    def with_rules_at(self, path: str) -> PrometheusSetup:
        """Give the same, with the file of rules elsewhere."""
        return replace(self, rules_path=path)

    def scrape_jobs(self, head_host: str, only: str = "") -> list[dict[str, Any]]:
        """List the jobs that scrape the cluster: its nodes, its head node, and Slurm where it answers.

        Args:
            head_host: Where Prometheus reaches the head node.
            only: The cluster whose nodes are asked: others on the same file system are other networks' as well, and
                would be down for ever. Empty for all.
        """
        files = self.config.below_fsx(*targets.FOLDER, f"*{targets.SUFFIX}")
        port = self.config["monitoring.node_exporter_port"]
        jobs: list[dict[str, Any]] = [
            {
                "job_name": JOB,
                # Our metrics name node and partition themselves, and mean the job's.
                "honor_labels": True,
                "file_sd_configs": [
                    {
                        "files": [files],
                        # Lustre does not tell one client what another has written, so inotify sees nothing of it.
                        "refresh_interval": _seconds(self.config["monitoring.refresh_interval"]),
                    }
                ],
            },
            {
                "job_name": f"{JOB}-head",
                "honor_labels": True,
                "static_configs": [
                    {
                        "targets": [f"{head_host}:{port}"],
                        "labels": {
                            "cluster": self.cluster,
                            "exporter": "node_exporter",
                            "instance": f"{self.head}:{port}",
                            "node": self.head,
                        },
                    }
                ],
            },
        ]
        if only:
            jobs[0]["relabel_configs"] = [{"source_labels": ["cluster"], "regex": re.escape(only), "action": "keep"}]
        if self.slurm_metrics:
            jobs += [self._slurm_job(endpoint) for endpoint in SLURM_ENDPOINTS]
        return jobs

    def _slurm_job(self, endpoint: str) -> dict[str, Any]:
        return {
            "job_name": f"slurm-{endpoint}",
            "metrics_path": f"/metrics/{endpoint}",
            # Each answer takes slurmctld's locks.
            "scrape_interval": _seconds(max(_SLURM_INTERVAL_S, self.config["monitoring.scrape_interval"])),
            "honor_labels": True,
            "static_configs": [{"targets": [self.slurm_metrics], "labels": {"cluster": self.cluster}}],
        }

    def _own_job(self) -> dict[str, Any]:
        return {
            "job_name": "prometheus",
            "static_configs": [{"targets": [reachable(self.config["monitoring.prometheus_listen"])]}],
        }


def reachable(listen: str) -> str:
    """Give where this machine reaches a server that listens there, e.g. ``127.0.0.1:9090`` for ``:9090``."""
    host, _, port = listen.rpartition(":")
    return f"127.0.0.1:{port}" if host in ("", "0.0.0.0", "[::]") else listen  # noqa: S104  # nothing is bound to it


def _seconds(value: float) -> str:
    return f"{round(value * 1000)}ms" if value != round(value) else f"{round(value)}s"


def _dump(content: dict[str, Any]) -> str:
    import yaml

    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110)
    return text
