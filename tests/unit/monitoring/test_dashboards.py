"""Grafana's dashboards: their files are current, and have the shape that Grafana reads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml

from slurm_fsx_tools.config.model import DEFAULTS, Config
from slurm_fsx_tools.monitoring.dashboards.files import DASHBOARDS, format_file, write_files
from slurm_fsx_tools.monitoring.dashboards.model import TABLE, WIDTH, Dashboard
from slurm_fsx_tools.monitoring.dashboards.places import HOT
from slurm_fsx_tools.monitoring.prometheus.alerts import HOT_C
from slurm_fsx_tools.monitoring.prometheus.rules import recording_rules

FOLDER = Path(__file__).parents[3] / "share/grafana"
BUILT_IN = {"__rate_interval", "__url_time_range", "__all", "__data", "__field"}
each = pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.uid)


def panels(dashboard: Dashboard) -> list[dict[str, Any]]:
    return [panel for panel in dashboard.as_json()["panels"] if panel["type"] != "row"]


def texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from texts(part)


@each
def test_the_file_is_what_the_table_says(dashboard: Dashboard) -> None:
    command = "python -m slurm_fsx_tools.monitoring.dashboards.files share/grafana"
    assert (FOLDER / f"{dashboard.uid}.json").read_text() == format_file(dashboard), f"run: {command}"


def test_all_dashboards_are_written_and_no_other_is_there(tmp_path: Path) -> None:
    write_files(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in FOLDER.glob("*.json")}


def lost(given: Any, read: Any, path: str = "") -> Iterator[str]:
    """Name what stands in one JSON value and not, or otherwise, in another."""
    if isinstance(given, dict) and isinstance(read, dict):
        for key, value in given.items():
            yield from lost(value, read[key], f"{path}/{key}") if key in read else [f"{path}/{key}"]
    elif isinstance(given, list) and isinstance(read, list) and len(given) == len(read):
        for one, other in zip(given, read):
            yield from lost(one, other, f"{path}[]")
    elif given != read:
        yield path


@each
def test_grafanas_own_types_know_every_word(dashboard: Dashboard) -> None:
    models = pytest.importorskip("grafana_foundation_sdk.models.dashboard", reason="it wants Python 3.11")
    plugins = pytest.importorskip("grafana_foundation_sdk.cog.plugins")
    encoder = pytest.importorskip("grafana_foundation_sdk.cog.encoder")
    plugins.register_default_plugins()
    given = json.loads(format_file(dashboard))
    read = json.loads(encoder.JSONEncoder().encode(models.Dashboard.from_json(given)))
    # What the editor of variables shows of a query: Grafana writes and reads it, its types leave it out.
    assert set(lost(given, read)) <= {"/templating/list[]/definition"}


@each
def test_panels_have_numbers_of_their_own_and_no_two_overlap(dashboard: Dashboard) -> None:
    everything = dashboard.as_json()["panels"]
    numbers = [panel["id"] for panel in everything]
    assert sorted(set(numbers)) == sorted(numbers)
    for panel in everything:
        place = panel["gridPos"]
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= WIDTH
        assert place["h"] > 0
    for one, other in combinations([panel["gridPos"] for panel in everything], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, f"{one} and {other} overlap"


@each
def test_every_variable_that_is_used_exists_and_every_one_is_used(dashboard: Dashboard) -> None:
    content = dashboard.as_json()
    names = [variable["name"] for variable in content["templating"]["list"]]
    assert len(set(names)) == len(names)
    used = {name for text in texts(content) for name in re.findall(r"\$\{?(\w+)", text)}
    assert used - BUILT_IN == set(names)


@each
def test_a_variable_depends_only_on_those_before_it(dashboard: Dashboard) -> None:
    known: set[str] = {"datasource"}
    for variable in dashboard.variables:
        assert set(re.findall(r"\$\{?(\w+)", variable.query)) <= known
        known.add(variable.name)


@each
def test_every_panel_says_what_it_shows_and_asks_the_chosen_source(dashboard: Dashboard) -> None:
    titles = [(row.title, panel.title) for row in dashboard.rows for panel in row.panels]
    assert len(set(titles)) == len(titles)
    for panel in panels(dashboard):
        assert panel["description"].endswith("."), panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["targets"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
        assert all("cluster" in target["expr"] for target in panel["targets"]), panel["title"]


@each
def test_only_grafanas_own_panels_are_used(dashboard: Dashboard) -> None:
    assert {panel["type"] for panel in panels(dashboard)} <= {"timeseries", "stat", "table", "state-timeline"}


@each
def test_thresholds_begin_without_a_value_and_rise(dashboard: Dashboard) -> None:
    for panel in panels(dashboard):
        first, *others = [step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]]
        assert first is None
        assert others == sorted(others)


@each
def test_links_lead_to_dashboards_and_set_variables_that_are_there(dashboard: Dashboard) -> None:
    variables = {board.uid: {variable.name for variable in board.variables} for board in DASHBOARDS}
    links = [text for text in texts(dashboard.as_json()) if text.startswith("/d/")]
    assert links
    for link in links:
        parts = urlsplit(link)
        uid = parts.path.removeprefix("/d/")
        assert {name[len("var-") :] for name, _ in parse_qsl(parts.query) if name.startswith("var-")} <= variables[uid]
        assert "${datasource:queryparam}" in link
        assert "${cluster:queryparam}" in link


@each
def test_a_link_in_a_table_takes_a_column_that_is_shown(dashboard: Dashboard) -> None:
    for row in dashboard.rows:
        for panel in row.panels:
            shown = {name for name, _ in panel.columns}
            for _, column in panel.columns:
                assert set(re.findall(r"__data\.fields\.(\w+)", column.link)) <= shown, panel.title
            legends = {query.legend for query in panel.queries if query.legend}
            if panel.kind == TABLE:
                assert legends <= shown, panel.title


def test_one_gets_from_the_cluster_to_a_job_its_node_and_its_gpu() -> None:
    leads = {
        board.uid: {urlsplit(text).path[3:] for text in texts(board.as_json()) if text.startswith("/d/")}
        for board in DASHBOARDS
    }
    assert {"slurm-fsx-job", "slurm-fsx-node"} <= leads["slurm-fsx-cluster"]
    assert {"slurm-fsx-node", "slurm-fsx-gpu"} <= leads["slurm-fsx-job"]
    assert {"slurm-fsx-job", "slurm-fsx-gpu"} <= leads["slurm-fsx-node"]
    assert {"slurm-fsx-job", "slurm-fsx-node"} <= leads["slurm-fsx-gpu"]


def test_recorded_series_that_are_asked_for_are_recorded() -> None:
    recorded = {rule.record for rule in recording_rules(60)}
    asked = {
        name for board in DASHBOARDS for text in texts(board.as_json()) for name in re.findall(r"slurm_fsx:\w+", text)
    }
    assert asked <= recorded


def test_colours_change_where_alerts_begin() -> None:
    assert HOT[-1][0] == HOT_C


def test_grafana_is_told_of_the_prometheus_and_the_folder_that_there_are() -> None:
    source = yaml.safe_load((FOLDER / "provisioning/datasource.yaml").read_text())
    (entry,) = source["datasources"]
    assert entry["url"] == DEFAULTS["monitoring.prometheus_url"]
    assert entry["jsonData"]["timeInterval"] == f"{Config()['monitoring.scrape_interval']:g}s"
    (provider,) = yaml.safe_load((FOLDER / "provisioning/dashboards.yaml").read_text())["providers"]
    assert provider["options"]["path"].endswith("/share/slurm-fsx/grafana")
