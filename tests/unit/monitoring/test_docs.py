"""docs/monitoring.md says of rules and alerts what they are, and its queries are ones that Prometheus takes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from slurm_fsx_tools.config.model import DEFAULTS
from slurm_fsx_tools.monitoring.prometheus.alerts import APPLICATION_XIDS, alerts
from slurm_fsx_tools.monitoring.prometheus.rules import recording_rules


@pytest.fixture(scope="module")
def page(checkout: Path) -> str:
    return (checkout / "docs/monitoring.md").read_text()


def table(page: str, header: str) -> list[list[str]]:
    """The cells of the rows below a header."""
    lines = page.partition(f"\n{header}\n")[2].splitlines()[1:]
    end = next((number for number, line in enumerate(lines) if not line.startswith("|")), len(lines))
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines[:end]]


def test_the_table_of_alerts_is_what_prometheus_gets(page: str) -> None:
    def plain(summary: str) -> str:
        return re.sub(r"\{\{ \$value[^}]*\}\}", "N", re.sub(r"\{\{ \$labels\.(\w+) \}\}", r"`\1`", summary))

    assert table(page, "| alert | severity | after | says |") == [
        [alert.name, alert.severity, alert.for_, plain(alert.summary)] for alert in alerts("/fsx")
    ]


def test_the_table_of_series_is_what_prometheus_records(page: str) -> None:
    assert table(page, "| series | value |") == [[f"`{rule.record}`", rule.help] for rule in recording_rules(60)]


def test_the_defaults_of_settings_are_as_the_page_has_them(page: str) -> None:
    rows = table(page, "| key | default | |")
    told = {row[0].strip("`"): row[1].strip("`") for row in rows}
    defaults = {key: DEFAULTS[key] for key in told}
    assert told == {key: f"{value:g}" if isinstance(value, float) else value or "" for key, value in defaults.items()}


def test_the_page_names_the_xid_errors_that_raise_no_alert(page: str) -> None:
    assert f"({', '.join(map(str, APPLICATION_XIDS))})" in page


def test_prometheus_takes_every_query_of_the_page(page: str, tmp_path: Path) -> None:
    if not shutil.which("promtool"):
        pytest.skip("needs promtool, of Debian's package prometheus")
    blocks = re.findall(r"```promql\n(.*?)```", page, re.DOTALL)
    queries = [line for block in blocks for line in block.splitlines()]
    rules = [{"record": f"query{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", tmp_path / "rules.yml"], capture_output=True, text=True)
    assert len(queries) > 5
    assert done.returncode == 0, done.stdout + done.stderr
    series = {name for query in queries for name in re.findall(r"slurm_fsx:\w+", query)}
    assert series <= {rule.record for rule in recording_rules(60)}
