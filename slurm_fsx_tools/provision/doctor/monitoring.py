"""Checks of metrics: exporters that answer, Prometheus that knows them, and how long prologs take."""

from __future__ import annotations

import json
import math
import os
import re
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

from ...errors import SlurmFsxError
from ...files import read_trusted
from ...monitoring.exporters import DCGM, NODE, answering, node_exporters
from ...monitoring.metrics_file import SUFFIX
from ...monitoring.on_head.head_metrics import HEAD as HEAD_FILE
from ...monitoring.on_head.head_metrics import SYNC
from ...monitoring.prometheus.query import PrometheusClient
from ...monitoring.targets import FOLDER
from ...node_sets import fold
from ...programs import find_program
from ..node_exporter import UNITS, find_unit
from .findings import COMPUTE, HEAD, NOTE, PROBLEM, WARNING, Check, Finding, Probe, Trouble, Unseen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...monitoring.prometheus.query import Series
    from .findings import Context, Facts

_ASK_S = 2.0
_LIMIT_BYTES = 16 << 20
_DURATION = "slurm_fsx_prolog_duration_seconds"
_FAIL_OPEN = "slurm_fsx_fail_open_total"
_HEALTH = "slurm_fsx_health.prom"
_SLOW_SHARE = 0.5
"""Of prolog.deadline: at that rate, a busy day brings prologs that are cut off. The figure is ours."""

_OFTEN_SHARE, _OFTEN_LEAST = 0.01, 3
"""Of the jobs that went on without something: more than bad luck now and then. Ours as well."""

_WORSE_TIMES = 2.0
_WORSE_S = 0.5
"""How much slower the last hour must be than the day before to count as a trend, and from where on. Ours, too."""

_QUANTILE = f"histogram_quantile(0.95, sum(rate({_DURATION}_bucket%s)) by (le))"
_SPANS = ("[1h]", "[1d] offset 1h")
_DOWN = 'up{exporter!="",node!=""} == 0'
_UNITS = {NODE: UNITS, DCGM: ("dcgm-exporter.service", "nvidia-dcgm-exporter.service")}
_SYNC_MINUTES = 15
"""How long a sync, which comes once a minute, may be away."""

SILENT = Trouble(
    WARNING,
    "{exporter} on {node}:{port} does not do its work: {reason}.",
    "Prometheus shows nothing of this node, and no job's metrics from here.",
    "systemctl restart {unit}",
)
NO_UNIT = SILENT._replace(
    why="Prometheus shows nothing of this node, and no job's metrics from here; nothing is installed here that systemd "
    "would start as {exporter}. Install it, or set monitoring.enabled to false where nobody wants metrics.",
    command="",
)
NO_PACKAGE = NO_UNIT._replace(command="apt-get install prometheus-node-exporter")
DUPLICATE = Trouble(
    PROBLEM,
    "dcgm-exporter on {node}:{port} answers 500.",
    "A job that stands twice in a file of its mapping folder does that, and hides all GPUs of the node.",
    "find {folder} -type f -delete",
    "https://github.com/NVIDIA/dcgm-exporter/issues/730",
)
NO_TEXTFILE = Trouble(
    WARNING,
    "node_exporter on {node} does not read {folder}.",
    "Jobs' names, users and GPUs reach Prometheus by files there. Start it with "
    "--collector.textfile.directory={folder}, or set monitoring.textfile_dir to its folder.",
    "systemctl restart {unit}",
    "https://github.com/prometheus/node_exporter#textfile-collector",
)
BAD_TEXTFILE = NO_TEXTFILE._replace(
    text="node_exporter on {node} cannot read {files}.",
    why="It leaves out what it cannot read: jobs' metrics may be missing. Its log says why; remove what nobody needs.",
    command="journalctl --unit {unit} --since -10min | grep textfile",
)
NOT_REGISTERED = Trouble(
    WARNING,
    "Prometheus is not told of {exporters} on {node}.",
    "{path} does not have them, though they answer: their metrics are not collected.",
    "slurm-fsx monitoring register",
    is_safe=True,
)
NO_PROMETHEUS = Trouble(
    WARNING,
    "Metrics cannot be asked for: {reason}.",
    "Nothing is collected, and no alert comes.",
    "systemctl restart prometheus",
)
NOT_INSTALLED = NO_PROMETHEUS._replace(
    why="Nothing is collected, and no alert comes. Where nobody wants metrics, set monitoring.enabled to false.",
    command="slurm-fsx monitoring install",
)
DOWN = Trouble(
    WARNING,
    "Prometheus cannot reach {exporter} on {nodes}.",
    "Nothing is collected from there. See whether the exporter runs, and whether a security group lets port {port} in.",
    "slurm-fsx doctor --node {nodes} exporters",
)
NO_TIMER = Trouble(
    WARNING,
    "Prometheus' targets have never been compared with Slurm's nodes here.",
    "Nodes that never ran a job are not seen, and those that are gone stay as targets that are down. Where nobody "
    "wants metrics, set monitoring.enabled to false.",
    "slurm-fsx setup head",
)
NO_SYNC = NO_TIMER._replace(command="systemctl enable --now slurm-fsx-sync.timer")
OLD_SYNC = Trouble(
    WARNING,
    "Prometheus' targets were last compared with Slurm's nodes {since}.",
    "It is done once a minute: new nodes are not seen, and those that are gone stay as targets that are down.",
    "slurm-fsx monitoring sync",
)
SLOW_PROLOGS = Trouble(
    WARNING,
    "5 % of the prologs on this node took more than {seconds:g} s.",
    "At prolog.deadline ({deadline:g} s) a prolog is cut off, and its job starts without NCCL. A slow {root} is the "
    "usual reason.",
    "journalctl -t slurm-fsx --since today",
)
WORSE_PROLOGS = Trouble(
    WARNING,
    "Prologs have become slower: 95 % ended within {before:.2g} s in the day before, and within {now:.2g} s in the "
    "last hour.",
    "Something that they wait for is getting slow, {root} mostly; at prolog.deadline ({deadline:g} s) they are cut "
    "off.",
    "slurm-fsx doctor fsx-answers fsx-space",
)
FAILED_OPEN = Trouble(
    NOTE,
    "A {act} went on without a part of its work {times} since this node's boot; jobs since then: {total:g}.",
    "The jobs started, but some without NCCL, metrics or a site's plugin. The log says which, and why.",
    "journalctl -t slurm-fsx --priority warning",
)
OFTEN_FAILED_OPEN = FAILED_OPEN._replace(severity=WARNING)


def parse_metrics(text: str, names: Sequence[str]) -> list[tuple[str, dict[str, str], float]]:
    """Read samples of some metrics from Prometheus' text format: name, labels, value."""
    found = []
    for line in text.splitlines():
        match = re.match(r"([A-Za-z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)", line)
        if match and match[1] in names:
            found.append((match[1], dict(re.findall(r'(\w+)="([^"]*)"', match[2] or "")), float(match[3])))
    return found


def quantile(buckets: Sequence[tuple[float, float]], share: float) -> float | None:
    """Give the bound that a share of a histogram's values keeps to; None without a value, infinite above all bounds.

    Args:
        buckets: Upper bounds, and how many values are at most that.
        share: Between 0 and 1.
    """
    ordered = sorted(buckets)
    total = ordered[-1][1] if ordered else 0.0
    return next((bound for bound, count in ordered if count >= share * total), None) if total else None


def _gather_exporters(context: Context, facts: Facts) -> Any:
    found = []
    for exporter in node_exporters(context.config):
        reason = answering(context.node, exporter, _ASK_S)
        unread = None
        if not reason and exporter.name == NODE:
            metrics = _get(f"http://{context.node}:{exporter.port}/metrics")
            unread = _unread_textfiles(metrics, context.config["monitoring.textfile_dir"])
        unit = find_unit(units=_UNITS.get(exporter.name, ()))[0]
        has_package = exporter.name == NODE and find_program("apt-get") is not None
        found.append([exporter.name, exporter.port, reason, unread, unit, has_package])
    return found


def _unread_textfiles(metrics: str, folder: str) -> list[str] | None:
    """Give what node_exporter could not read in a folder; None where it reads no folder."""
    error, mtime = "node_textfile_scrape_error", "node_textfile_mtime_seconds"
    samples = parse_metrics(metrics, [error, mtime])
    errors = [value for name, _, value in samples if name == error]
    if not errors or not errors[0]:
        return [] if errors else None
    # It gives a time for each file that it has read.
    read = {os.path.basename(labels.get("file", "")) for name, labels, _ in samples if name == mtime}
    files = [name for name in sorted(os.listdir(folder)) if name.endswith(SUFFIX) and name not in read]
    return [f"{folder}/{name}" for name in files] or [f"a file in {folder}"]


def _gather_targets(context: Context, facts: Facts) -> Any:
    path = context.config.below_fsx(*FOLDER, f"{context.node}.json")
    try:
        groups = json.loads(read_trusted(path))
        return [group["labels"].get("exporter", "") for group in groups]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SlurmFsxError(f"{path} is not what Prometheus reads", hint="remove it") from None


def _gather_prometheus(context: Context, facts: Facts) -> Any:
    try:
        client = PrometheusClient(context.config["monitoring.prometheus_url"], _ASK_S)
        down = [
            [series.labels["exporter"], series.labels["node"], series.labels.get("instance", "")]
            for series in client.query(_DOWN)
        ]
        hour, day = (next(iter(client.query(_QUANTILE % span)), None) for span in _SPANS)
    except SlurmFsxError as error:
        host = urllib.parse.urlsplit(context.config["monitoring.prometheus_url"]).hostname
        is_installed = host not in ("127.0.0.1", "::1", "localhost") or find_program("prometheus") is not None
        return {"reason": error.message, "is_installed": is_installed, "down": [], "hour": None, "day": None}
    return {"reason": "", "down": down, "hour": _finite(hour), "day": _finite(day)}


def _finite(series: Series | None) -> float | None:
    return series.value if series is not None and math.isfinite(series.value) else None


def _gather_sync(context: Context, facts: Facts) -> Any:
    """Read what the head node's sync wrote last: whether it succeeded, and when it last did."""
    found = {}
    for name, metric in ((SYNC, "slurm_fsx_sync_success"), (HEAD_FILE, "slurm_fsx_sync_timestamp_seconds")):
        path = f"{context.config['monitoring.textfile_dir']}/{name}{SUFFIX}"
        try:
            text = read_trusted(path, _LIMIT_BYTES).decode(errors="replace")
        except FileNotFoundError:
            continue
        for _, _, value in parse_metrics(text, [metric]):
            found[metric] = value
    has_timer = os.path.exists(f"{context.etc}/systemd/system/slurm-fsx-sync.timer")
    return [found.get("slurm_fsx_sync_success"), found.get("slurm_fsx_sync_timestamp_seconds"), has_timer]


def _get(url: str) -> str:
    # No proxy: what is asked is on this machine, or a node's.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=_ASK_S) as answer:
        data: bytes = answer.read(_LIMIT_BYTES)
    return data.decode(errors="replace")


def _gather_health(context: Context, facts: Facts) -> Any:
    """Read this node's own metrics, as its prologs wrote them."""
    path = f"{context.config['monitoring.textfile_dir']}/{_HEALTH}"
    try:
        text = read_trusted(path).decode(errors="replace")
    except FileNotFoundError:
        return {"buckets": [], "failed": []}
    samples = parse_metrics(text, [f"{_DURATION}_bucket", _FAIL_OPEN])
    return {
        "buckets": [[float(labels["le"]), value] for name, labels, value in samples if name.endswith("_bucket")],
        "failed": [[labels.get("act", ""), value] for name, labels, value in samples if name == _FAIL_OPEN],
    }


def _judge_exporters(context: Context, facts: Facts) -> list[Finding]:
    if not context.config["monitoring.enabled"]:
        return []
    folder = context.config["monitoring.textfile_dir"]
    fsx = facts.missing("fsx")
    is_hung = fsx is not None and fsx.hung
    found = []
    for name, port, reason, unread, unit, has_package in facts["exporters"]:
        place = {"exporter": name, "node": context.node, "port": port, "unit": unit.partition(".")[0] or name}
        if reason and "500" in reason and name == DCGM:
            mapping = context.config["monitoring.gpu_mapping_dir"] or "its mapping folder"
            found.append(DUPLICATE.found(node=context.node, port=port, folder=mapping))
        elif reason and is_hung:
            raise Unseen(f"{context.config['fsx.root']} hangs, and {name}, which looks at each mount, perhaps with it")
        elif reason:
            trouble = SILENT if unit else NO_PACKAGE if has_package else NO_UNIT
            found.append(trouble.found(reason=reason, **place))
        elif name == NODE and unread is None:
            found.append(NO_TEXTFILE.found(folder=folder, **place))
        elif unread:
            found.append(BAD_TEXTFILE.found(files=unread, **place))
    return found


def _judge_targets(context: Context, facts: Facts) -> list[Finding]:
    if not context.config["monitoring.enabled"]:
        return []
    answering_here = [name for name, _, reason, *_ in facts["exporters"] if not reason]
    missing = [name for name in answering_here if name not in facts["targets"]]
    path = context.config.below_fsx(*FOLDER, f"{context.node}.json")
    return [NOT_REGISTERED.found(exporters=missing, node=context.node, path=path)] if missing else []


def _judge_prometheus(context: Context, facts: Facts) -> list[Finding]:
    if not context.config["monitoring.enabled"]:
        return []
    seen = facts["prometheus"]
    if seen["reason"]:
        trouble = NO_PROMETHEUS if seen["is_installed"] else NOT_INSTALLED
        return [trouble.found(reason=seen["reason"].rstrip("."))]
    groups: dict[tuple[str, str], list[str]] = {}
    for exporter, node, instance in seen["down"]:
        groups.setdefault((exporter, instance.rpartition(":")[2]), []).append(node)
    return [DOWN.found(exporter=exporter, nodes=fold(nodes), port=port) for (exporter, port), nodes in groups.items()]


def _judge_sync(context: Context, facts: Facts) -> list[Finding]:
    success, last_s, has_timer = facts["sync"]
    if not context.config["monitoring.enabled"]:
        return []
    if success is None and last_s is None:
        return [(NO_SYNC if has_timer else NO_TIMER).found()]
    minutes = (context.now_s - (last_s or 0.0)) / 60
    if success == 0 or minutes > _SYNC_MINUTES:
        since = f"{minutes:.0f} minutes ago" if last_s else "never"
        return [OLD_SYNC.found(since=since)]
    return []


def _judge_durations(context: Context, facts: Facts) -> list[Finding]:
    seen, deadline_s, root = facts["health"], context.config["prolog.deadline"], context.config["fsx.root"]
    bound_s = quantile([(bound, count) for bound, count in seen["buckets"]], 0.95)
    found = []
    if bound_s is not None and bound_s > _SLOW_SHARE * deadline_s:
        below = [bound for bound, _ in seen["buckets"] if bound < bound_s]
        found.append(SLOW_PROLOGS.found(seconds=max(below, default=0.0), deadline=deadline_s, root=root))
    total = max((count for _, count in seen["buckets"]), default=0.0)
    for act, number in seen["failed"]:
        if number:
            is_often = number >= _OFTEN_LEAST and number > _OFTEN_SHARE * total
            trouble = OFTEN_FAILED_OPEN if is_often else FAILED_OPEN
            found.append(trouble.found(act=act, times="once" if number == 1 else f"{number:g} times", total=total))
    return found


def _judge_trend(context: Context, facts: Facts) -> list[Finding]:
    if not context.config["monitoring.enabled"]:
        return []
    seen = facts["prometheus"]
    if seen["reason"]:
        raise Unseen("Prometheus does not answer")
    now_s, before_s = seen["hour"], seen["day"]
    if now_s is None or before_s is None or now_s < _WORSE_S or now_s < _WORSE_TIMES * before_s:
        return []
    common = {"root": context.config["fsx.root"], "deadline": context.config["prolog.deadline"]}
    return [WORSE_PROLOGS.found(now=now_s, before=before_s, **common)]


PROBES = (
    Probe("exporters", "an exporter of this node", _gather_exporters, limit_s=5.0),
    Probe("targets", "{root}/monitoring/targets", _gather_targets, after=("fsx",)),
    Probe("prometheus", "Prometheus", _gather_prometheus, limit_s=6.5),
    Probe("sync", "the head node's own metrics", _gather_sync),
    Probe("health", "this node's own metrics", _gather_health),
)
CHECKS = (
    Check(
        "exporters",
        "this node's exporters answer, and node_exporter reads jobs' metrics",
        ("exporters", "fsx"),
        _judge_exporters,
        (SILENT, NO_PACKAGE, NO_UNIT, DUPLICATE, NO_TEXTFILE, BAD_TEXTFILE),
        COMPUTE,
    ),
    Check(
        "targets",
        "Prometheus is told of this node's exporters",
        ("exporters", "targets"),
        _judge_targets,
        (NOT_REGISTERED,),
        COMPUTE,
    ),
    Check(
        "prometheus",
        "Prometheus answers and reaches all nodes",
        ("prometheus",),
        _judge_prometheus,
        (NOT_INSTALLED, NO_PROMETHEUS, DOWN),
        HEAD,
    ),
    Check(
        "targets-synced",
        "Prometheus' targets are kept as Slurm's nodes are",
        ("sync",),
        _judge_sync,
        (NO_TIMER, NO_SYNC, OLD_SYNC),
        HEAD,
    ),
    Check(
        "prolog-duration",
        "prologs on this node are far from their limit, and did all their work",
        ("health",),
        _judge_durations,
        (SLOW_PROLOGS, FAILED_OPEN, OFTEN_FAILED_OPEN),
        COMPUTE,
    ),
    Check(
        "prolog-trend", "prologs are no slower than yesterday", ("prometheus",), _judge_trend, (WORSE_PROLOGS,), HEAD
    ),
)
