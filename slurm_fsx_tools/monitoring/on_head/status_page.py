"""The status page: how a cluster is, as one HTML document without scripts, or anything from elsewhere.

Nodes that are alike are one row, so that ten thousand of them are no longer a page than ten. Everything that anybody
may have written is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import html
import time
from typing import TYPE_CHECKING

from ...node_sets import fold
from .discovery import is_coming, is_off, labels_from_slurm

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ...slurm_state import SlurmJob, SlurmNode
    from .overview import Overview

JOBS_SHOWN = 100
IMAGES_SHOWN = 100
_LONGEST_SET = 400
"""Characters of a set of nodes; a longer one is folded away."""

_TROUBLE = ("down", "drain", "fail", "error", "unknown", "no_respond")
_STYLE = """
:root { color-scheme: light dark; --line: #d5d8dd; --soft: #5b6270; --bad: #b3261e; --good: #1b6e3c; --tint: #f4f5f7 }
@media (prefers-color-scheme: dark) {
  :root { --line: #3a3f47; --soft: #a2aab8; --bad: #ff8a80; --good: #7ddc9f; --tint: #22262c }
}
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 70rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem }
p { margin: .25rem 0 } .soft { color: var(--soft) } .bad { color: var(--bad) } .good { color: var(--good) }
[role=alert] { border-left: .25rem solid var(--bad); background: var(--tint); padding: .5rem .75rem; margin: 1rem 0 }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .75rem; margin: 1.25rem 0 }
dl div { background: var(--tint); border-radius: .4rem; padding: .5rem .75rem }
dt { color: var(--soft); font-size: .85rem } dd { margin: 0; font-size: 1.3rem; font-variant-numeric: tabular-nums }
dd.text { font-size: 1rem }
table { border-collapse: collapse; width: 100%; font-size: .93rem }
th, td { text-align: left; vertical-align: top; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line) }
th { color: var(--soft); font-weight: 500 } th, td { white-space: nowrap }
.number { text-align: right; font-variant-numeric: tabular-nums }
td.long { white-space: normal; width: 30% } summary { cursor: pointer }
ul { columns: 18rem; padding-left: 1.2rem; margin: .5rem 0 }
@media (max-width: 48rem) {
  table, tbody, tr, td { display: block; width: auto } thead { display: none }
  tr { border-bottom: 1px solid var(--line); padding: .4rem 0 } td, td.number { border: 0; padding: .05rem 0 }
  td, td.number, td.long { display: grid; grid-template-columns: 7rem 1fr; text-align: left; width: auto;
    white-space: normal }
  td::before { content: attr(data-name); color: var(--soft) } td:empty { display: none }
}
"""
STYLE_HASH = "sha256-" + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
"""By which a Content-Security-Policy lets this page's style be used, and no other."""


def render(overview: Overview, cluster: str) -> bytes:
    """Give the page."""
    title = f"{cluster or 'cluster'}: status"
    body = [
        f"<h1>{_text(cluster or 'Cluster')}</h1>",
        f'<p class="soft">As of <time datetime="{_iso(overview.taken_s)}">{_date(overview.taken_s)}</time>. '
        '<a href="./">Look again</a></p>',
        *(f'<p role="alert">{_text(problem)}</p>' for problem in overview.problems),
        _summary(overview),
        *_nodes(overview.nodes),
        *_exporters(overview),
        *_jobs(overview.jobs, overview.taken_s),
        *_images(overview),
    ]
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{_text(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{_STYLE}</style></head>\n'
        f"<body><main>\n{chr(10).join(body)}\n</main></body>\n</html>\n"
    ).encode("utf-8", "replace")


def _summary(overview: Overview) -> str:
    running = [job for job in overview.jobs if job.nodes]
    trouble = sum(_is_trouble(node) for node in overview.nodes)
    off = sum(is_off(node) for node in overview.nodes)
    facts = [
        ("nodes", str(len(overview.nodes)), ""),
        ("powered off", str(off), ""),
        ("in trouble", str(trouble), "bad" if trouble else ""),
        ("jobs running", str(len(running)), ""),
        ("jobs waiting", str(len(overview.jobs) - len(running)), ""),
        ("images", str(len(overview.other.images)), ""),
        ("NCCL for jobs", overview.other.nccl or "none of ours", "text"),
    ]
    return "<dl>{}</dl>".format(
        "".join(f'<div><dt>{name}</dt><dd class="{mark}">{_text(value)}</dd></div>' for name, value, mark in facts)
    )


def _nodes(nodes: Sequence[SlurmNode]) -> list[str]:
    groups: dict[tuple[bool, str, str, str], list[str]] = {}
    for node in nodes:
        labels = labels_from_slurm(node)
        state = node.state + (", powered off" if is_off(node) else ", powering up" if is_coming(node) else "")
        state += ", no answer" if "*" in node.marks else ""
        key = (not _is_trouble(node), state, labels.get("partition", ""), labels.get("instance_type", ""))
        groups.setdefault(key, []).append(node.name)
    rows = [
        (
            _mark(state, "" if is_fine else "bad"),
            str(len(names)),
            _node_set(names),
            _text(partition.replace(",", ", ")),
            _text(instance_type),
        )
        for (is_fine, state, partition, instance_type), names in sorted(groups.items())
    ]
    if not rows:
        return ["<h2>Nodes</h2>", '<p class="soft">None is known.</p>']
    return ["<h2>Nodes</h2>", _table(("state", "#how many", "+nodes", "partitions", "instance type"), rows)]


def _exporters(overview: Overview) -> list[str]:
    registered: dict[str, int] = {}
    for targets in (overview.targets or {}).values():
        for name in targets:
            registered[name] = registered.get(name, 0) + 1
    seen = overview.exporters
    rows = []
    for name in sorted(registered.keys() | (seen.up.keys() | seen.down.keys() if seen else set())):
        up = str(seen.up.get(name, 0)) if seen else "not known"
        silent = seen.down.get(name, []) if seen else []
        down = _mark(str(len(silent)), "bad" if silent else "") if seen else "not known"
        rows.append((_text(name), str(registered.get(name, 0)), up, down, _node_set(silent)))
    if not rows:
        return ["<h2>Exporters</h2>", '<p class="soft">None is registered.</p>']
    return ["<h2>Exporters</h2>", _table(("exporter", "#registered", "#up", "#down", "+down on"), rows)]


def _jobs(jobs: Sequence[SlurmJob], now_s: float) -> list[str]:
    running = sorted((job for job in jobs if job.nodes), key=lambda job: -job.id)
    if not running:
        return ["<h2>Running jobs</h2>", '<p class="soft">None.</p>']
    rows = [
        (
            str(job.id),
            _text(job.user or str(job.uid)),
            _text(job.account),
            _text(job.name[:80]),
            _text(job.state.lower()),
            _span(now_s - job.start_time_s) if job.start_time_s else "",
            str(job.gpus or ""),
            _short(job.nodes),
        )
        for job in running[:JOBS_SHOWN]
    ]
    table = _table(("#job", "user", "account", "+name", "state", "#for", "#GPUs", "+nodes"), rows)
    more = len(running) - JOBS_SHOWN
    return ["<h2>Running jobs</h2>", table, *([f'<p class="soft">And {more} older ones.</p>'] if more > 0 else [])]


def _images(overview: Overview) -> list[str]:
    images = overview.other.images
    imports = ", ".join(f"{count} {_text(result)}" for result, count in overview.other.imports.items() if count)
    lines = ["<h2>Images</h2>", f'<p class="soft">Imports: {imports or "none"}.</p>']
    if images:
        items = "".join(f"<li>{_text(name)}</li>" for name in images[:IMAGES_SHOWN])
        more = len(images) - IMAGES_SHOWN
        lines.append(f"<ul>{items}{f'<li>and {more} more</li>' if more > 0 else ''}</ul>")
    return lines


def _table(head: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """Give a table of cells that are HTML already; ``#`` before a head is a column of numbers, ``+`` one of long text.

    Each cell names its column, for narrow screens, where a row becomes a list.
    """
    kinds = {"#": ' class="number"', "+": ' class="long"'}
    columns = [(_text(name.lstrip("#+")), kinds.get(name[0], "")) for name in head]
    top = "".join(f'<th scope="col"{kind}>{name}</th>' for name, kind in columns)
    body = "".join(
        "<tr>{}</tr>\n".format(
            "".join(f'<td{kind} data-name="{name}">{cell}</td>' for cell, (name, kind) in zip(row, columns))
        )
        for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>\n{body}</tbody></table>"


def _node_set(names: Sequence[str]) -> str:
    return _short(fold(names)) if names else ""


def _short(text: str) -> str:
    """Give a set of nodes as Slurm takes it, which a line may break at each comma; a long one to be unfolded."""
    whole = _text(text).replace(",", ",<wbr>")
    if len(text) <= _LONGEST_SET:
        return whole
    start = text[: text.rfind(",", 0, 80) + 1 or 80]
    return f"<details><summary>{_text(start).replace(',', ',<wbr>')} …</summary>{whole}</details>"


def _mark(text: str, mark: str) -> str:
    return f'<span class="{mark}">{_text(text)}</span>' if mark else _text(text)


def _is_trouble(node: SlurmNode) -> bool:
    return not is_off(node) and (node.state.startswith(_TROUBLE) or "*" in node.marks)


def _text(text: str) -> str:
    """Escape a text, and let nothing in it steer what is shown: no control character, no change of direction."""
    return html.escape("".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text))


def _span(seconds: float) -> str:
    """Give a time in its two largest units."""
    minutes = int(max(0.0, seconds) // 60)
    days, hours = minutes // 1440, minutes // 60 % 24
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(seconds))


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
