"""Prometheus' own tool, which says what rules make of series that a test writes down: ``promtool test rules``."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml


class RuleTests:
    """Runs ``promtool test rules``.

    Args:
        folder: Where the files of a test are written.
        rules: The file of rules, as it is installed; its groups are evaluated one after the other.
    """

    def __init__(self, folder: Path, rules: str) -> None:
        self._folder = folder
        self._rules = folder / "rules.yml"
        self._rules.write_text(rules)
        self._groups = [group["name"] for group in yaml.safe_load(rules)["groups"]]

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
            "rule_files": [str(self._rules)],
            "evaluation_interval": interval,
            # Rules build on each other, alerts on rules: as the groups stand in the file.
            "group_eval_order": self._groups,
            "tests": [
                {
                    "interval": interval,
                    "input_series": [{"series": name, "values": values} for name, values in series.items()],
                    **tests,
                }
            ],
        }
        file = self._folder / "test.yml"
        file.write_text(yaml.safe_dump(content, sort_keys=False))
        done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True)
        return "" if done.returncode == 0 else done.stdout + done.stderr
