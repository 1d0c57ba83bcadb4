"""Prometheus' own tool, which says what the rules make of series that a test writes down."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import yaml

from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.monitoring.prometheus import PrometheusSetup


class RuleTests:
    """Runs ``promtool test rules`` on the rules as they are installed."""

    def __init__(self, folder: Path, setup: PrometheusSetup) -> None:
        self.folder = folder
        self.rules = folder / "rules.yml"
        self.rules.write_text(setup.format_rules())

    def answer(
        self,
        series: Mapping[str, str],
        expected: Mapping[str, Mapping[str, float]],
        at: str = "10m",
        interval: str = "1m",
    ) -> str:
        """Give what is wrong with the answers to queries; nothing where they are as expected.

        Args:
            series: Samples by series, in promtool's notation, one each `interval`.
            expected: For each query the values by series.
            at: When it is asked.
            interval: Between two samples, and two evaluations of the rules.
        """
        queries = [
            {
                "expr": query,
                "eval_time": at,
                "exp_samples": [{"labels": labels, "value": value} for labels, value in samples.items()],
            }
            for query, samples in expected.items()
        ]
        return self._run(series, interval, promql_expr_test=queries)

    def alert(
        self, series: Mapping[str, str], name: str, expected: Sequence[Mapping[str, object]], at: str, interval: str
    ) -> str:
        """Give what is wrong with the alerts that fire, annotations included."""
        test = {"eval_time": at, "alertname": name, "exp_alerts": list(expected)}
        return self._run(series, interval, alert_rule_test=[test])

    def _run(self, series: Mapping[str, str], interval: str, **tests: object) -> str:
        content = {
            "rule_files": [str(self.rules)],
            "evaluation_interval": interval,
            # Rules build on each other, alerts on rules: as the groups stand in the file.
            "group_eval_order": ["slurm-fsx", "slurm-fsx-alerts"],
            "tests": [
                {
                    "interval": interval,
                    "input_series": [{"series": name, "values": values} for name, values in series.items()],
                    **tests,
                }
            ],
        }
        file = self.folder / "test.yml"
        file.write_text(yaml.safe_dump(content, sort_keys=False))
        done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True)
        return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.fixture
def rules(tmp_path: Path, needs_promtool: None) -> RuleTests:
    """The rules of a cluster with the default configuration."""
    return RuleTests(tmp_path, PrometheusSetup(Config(), cluster="lab", head="head"))


@pytest.fixture
def needs_promtool() -> None:
    """Skips a test where Prometheus is not installed."""
    if not shutil.which("promtool"):
        pytest.skip("needs promtool: lab/install-packages installs it")
