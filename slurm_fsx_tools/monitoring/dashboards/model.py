"""What a Grafana dashboard is made of, and its JSON: panels in rows, laid out from left to right.

Source: Grafana's dashboard JSON model, ``schemaVersion`` 39 (Grafana 10 and 11; newer releases migrate it when they
load it). Panels are Grafana's own kinds alone, so nothing has to be installed beside it.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Any

SCHEMA_VERSION = 39
WIDTH = 24
"""Of a dashboard, in Grafana's columns."""

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

TIMESERIES, STAT, TABLE, TIMELINE = "timeseries", "stat", "table", "state-timeline"

GREEN, ORANGE, RED, BLUE = "green", "orange", "red", "blue"


@dataclass(frozen=True)
class Query:
    """A question to Prometheus."""

    expression: str
    legend: str = ""
    """Of each series, e.g. ``{{node}}``; in a table, the title of the column with the values."""


@dataclass(frozen=True)
class Column:
    """How a column of a table looks."""

    unit: str = ""
    link: str = ""
    """Where a click leads; see `link`."""


@dataclass(frozen=True)
class Panel:
    """One picture or table."""

    title: str
    description: str
    kind: str
    queries: tuple[Query, ...]
    unit: str = "short"
    """Grafana's name of it: ``percentunit`` for 0 to 1, ``bytes``, ``s``, ``watt``, ``celsius``."""

    width: int = 8
    height: int = 8
    thresholds: tuple[tuple[float | None, str], ...] = ((None, GREEN),)
    """Colours by the value from which on they hold, the first without one."""

    maximum: float | None = None
    stacked: bool = False
    link: str = ""
    """Where a click on a series leads."""

    columns: tuple[tuple[str, Column], ...] = ()
    """Of a table, in order: labels, and the queries' legends. Others are hidden."""


@dataclass(frozen=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Variable:
    """Something that the reader of a dashboard chooses, above it."""

    name: str
    label: str
    query: str
    """``label_values(SELECTOR, LABEL)``; where empty, the reader writes the value."""

    default: str = ""
    several: bool = False
    """Whether any number of values can be chosen; all are at first."""


@dataclass(frozen=True)
class Dashboard:
    """A page of Grafana's."""

    uid: str
    title: str
    description: str
    variables: tuple[Variable, ...]
    rows: tuple[Row, ...]
    hours: int = 6
    """How far it looks back at first."""

    def as_json(self) -> dict[str, Any]:
        """Give what Grafana reads."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["slurm-fsx"],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": True,
            "timezone": "browser",
            "graphTooltip": 1,
            "refresh": "30s",
            "time": {"from": f"now-{self.hours}h", "to": "now"},
            "timepicker": {},
            "annotations": {"list": []},
            "links": [
                {
                    "type": "dashboards",
                    "title": "slurm-fsx",
                    "tags": ["slurm-fsx"],
                    "asDropdown": True,
                    "includeVars": True,
                    "keepTime": True,
                    "targetBlank": False,
                }
            ],
            "templating": {"list": [_DATASOURCE_VARIABLE, *map(_variable, self.variables)]},
            "panels": _lay_out(self.rows),
        }


def link(uid: str, **values: str) -> str:
    """Give a link to a dashboard that keeps the datasource, the cluster and the times.

    Args:
        uid: The other dashboard.
        values: Its variables, each from a label of what was clicked on.
    """
    chosen = "".join(f"&var-{name}={value}" for name, value in values.items())
    return f"/d/{uid}?${{datasource:queryparam}}&${{cluster:queryparam}}&${{__url_time_range}}{chosen}"


def of_row(label: str) -> str:
    """Take a variable's value from a table's row."""
    return f"${{__data.fields.{label}:percentencode}}"


def of_series(label: str) -> str:
    """Take a variable's value from a graph's series."""
    return f"${{__field.labels.{label}:percentencode}}"


_DATASOURCE_VARIABLE = {
    "name": "datasource",
    "label": "Data source",
    "type": "datasource",
    "query": "prometheus",
    "hide": 0,
    "refresh": 1,
    "multi": False,
    "includeAll": False,
    "current": {},
    "options": [],
}


def _variable(variable: Variable) -> dict[str, Any]:
    common: dict[str, Any] = {"name": variable.name, "label": variable.label, "hide": 0}
    if not variable.query:
        chosen = {"text": variable.default, "value": variable.default, "selected": True}
        return {**common, "type": "textbox", "query": variable.default, "current": chosen, "options": [chosen]}
    return {
        **common,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": variable.query,
        "query": {"query": variable.query, "refId": "variable"},
        "refresh": 2,  # at each change of the time range: jobs come and go
        "sort": 7,  # natural order: n2 before n10
        "multi": variable.several,
        "includeAll": variable.several,
        **({"allValue": ".*"} if variable.several else {}),
        "current": {"text": ["All"], "value": ["$__all"], "selected": True} if variable.several else {},
        "options": [],
        "regex": "",
    }


def _lay_out(rows: tuple[Row, ...]) -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = []
    y = 0
    for row in rows:
        place = {"x": 0, "y": y, "w": WIDTH, "h": 1}
        number = len(panels) + 1
        panels.append(
            {"id": number, "type": "row", "title": row.title, "collapsed": False, "gridPos": place, "panels": []}
        )
        y += 1
        x = height = 0
        for panel in row.panels:
            if x + panel.width > WIDTH:
                x, y, height = 0, y + height, 0
            place = {"x": x, "y": y, "w": panel.width, "h": panel.height}
            panels.append({"id": len(panels) + 1, "gridPos": place, **_panel(panel)})
            x, height = x + panel.width, max(height, panel.height)
        y += height
    return panels


def _panel(panel: Panel) -> dict[str, Any]:
    instant = panel.kind in (STAT, TABLE)
    result: dict[str, Any] = {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "targets": [
            {
                "refId": letter,
                "datasource": DATASOURCE,
                "editorMode": "code",
                "expr": query.expression,
                "legendFormat": query.legend or "__auto",
                "instant": instant,
                "range": not instant,
                "format": "table" if panel.kind == TABLE else "time_series",
            }
            for letter, query in zip(string.ascii_uppercase, panel.queries)
        ],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": _overrides(panel)},
        "options": _OPTIONS[panel.kind],
    }
    if panel.kind == TABLE:
        result["transformations"] = _as_one_table(panel)
    return result


def _defaults(panel: Panel) -> dict[str, Any]:
    steps = [{"value": value, "color": color} for value, color in panel.thresholds]
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "thresholds": {"mode": "absolute", "steps": steps},
        "color": {"mode": "palette-classic" if panel.kind == TIMESERIES else "thresholds"},
        "custom": {},
        "links": [{"title": "Open", "url": panel.link}] if panel.link else [],
    }
    if panel.kind in (TIMESERIES, STAT):
        defaults["min"] = 0
    if panel.maximum is not None:
        defaults["max"] = panel.maximum
    if panel.kind == TIMESERIES:
        defaults["custom"] = {
            "fillOpacity": 30 if panel.stacked else 5,
            "stacking": {"mode": "normal" if panel.stacked else "none"},
            "thresholdsStyle": {"mode": "line" if len(panel.thresholds) > 1 else "off"},
            "showPoints": "never",
            "spanNulls": False,
        }
    return defaults


def _overrides(panel: Panel) -> list[dict[str, Any]]:
    overrides = []
    for name, column in panel.columns:
        properties: list[dict[str, Any]] = []
        if column.unit:
            properties.append({"id": "unit", "value": column.unit})
        if column.link:
            properties.append({"id": "links", "value": [{"title": f"Open this {name}", "url": column.link}]})
        if properties:
            overrides.append({"matcher": {"id": "byName", "options": name}, "properties": properties})
    return overrides


def _as_one_table(panel: Panel) -> list[dict[str, Any]]:
    """Join the queries' answers on the labels that they share, and show only the columns that were named."""
    several = len(panel.queries) > 1
    values = {
        (f"Value #{letter}" if several else "Value"): query.legend
        for letter, query in zip(string.ascii_uppercase, panel.queries)
        if query.legend
    }
    order = {name: place for place, (name, _) in enumerate(panel.columns)}
    shown = [name for name in order if name not in values.values()] + list(values)
    return [
        *([{"id": "merge", "options": {}}] if several else []),
        {"id": "filterFieldsByName", "options": {"include": {"names": shown}}},
        {
            "id": "organize",
            "options": {
                "excludeByName": {},
                "renameByName": values,
                "indexByName": {name: order[values.get(name, name)] for name in shown},
            },
        },
    ]


_OPTIONS: dict[str, dict[str, Any]] = {
    TIMESERIES: {
        "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    STAT: {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "none",
        "textMode": "auto",
    },
    TABLE: {"showHeader": True, "cellHeight": "sm", "footer": {"show": False}},
    TIMELINE: {
        "mergeValues": True,
        "showValue": "never",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
    },
}
