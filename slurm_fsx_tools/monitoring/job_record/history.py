"""What Prometheus knows of a job, running or past: what it was, and how busy its nodes and GPUs were."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..prometheus.query import one_of, quote
from ..prometheus.rules import node_cpu_utilization

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..prometheus.query import PrometheusClient, Series

POINTS = 60
"""How many points a course has, at most."""

_SHORTEST_STEP_S = 1.0
_SHORTEST_WINDOW_S = 60.0
"""A rate takes two samples at least: four of the usual ones, which are 15 s apart."""

_SHORT_S = 600.0
"""Shorter jobs' times are looked up exactly."""


class MetricsJob(NamedTuple):
    """A job as its metrics have it; a text is empty where no metric says it."""

    user: str
    account: str
    partition: str
    name: str
    """The user's own words, cut at `monitoring.label_limit`: never trusted."""

    nodes: tuple[str, ...]
    gpus: int
    container: str
    image: str
    nccl: str
    start_time_s: float
    last_seen_s: float
    """When it was seen last; it may have run for one scrape interval more."""


class Measure(NamedTuple):
    """Something that is measured of a job's nodes or GPUs."""

    name: str
    unit: str
    top: float
    """Where its scale ends; 0 where it has no natural end."""


class Course(NamedTuple):
    """How a measure went while a job ran."""

    measure: Measure
    node: str
    """Empty for the mean of all nodes."""

    points: list[tuple[float, float]]
    """Seconds since 1970, and the value."""

    @property
    def mean(self) -> float:
        return sum(value for _, value in self.points) / len(self.points)


CPU = Measure("CPU", "%", 100.0)
MEMORY = Measure("memory", "%", 100.0)
GPU = Measure("GPU", "%", 100.0)
GPU_MEMORY = Measure("GPU memory", "GiB", 0.0)
MEASURES = (CPU, MEMORY, GPU, GPU_MEMORY)


def find_job(prometheus: PrometheusClient, job_id: int, retention_s: float, cluster: str = "") -> MetricsJob | None:
    """Give what Prometheus remembers of a job; None where it remembers nothing.

    Args:
        prometheus: Where to ask.
        job_id: Slurm's id.
        retention_s: How far back to look.
        cluster: Slurm's name of the cluster: a Prometheus may know several. Empty for any.

    Raises:
        PrometheusUnavailable, QueryRefused: it cannot be asked.
    """
    labels = f"{{{_of_job(job_id, cluster)}}}"
    span = f"{max(60, int(retention_s))}s"
    infos = prometheus.query(f"last_over_time(slurm_fsx_job_info{labels}[{span}])")
    heads = prometheus.query(f"last_over_time(slurm_fsx_cluster_job_info{labels}[{span}])")
    if not infos and not heads:
        return None
    starts = prometheus.query(f"max_over_time(slurm_fsx_job_start_time_seconds{labels}[{span}])")
    seen = _times(prometheus, "slurm_fsx_job_info" if infos else "slurm_fsx_cluster_job_info", labels, span)
    both = [*infos, *heads]
    nodes = sorted({series.labels["node"] for series in infos if series.labels.get("node")})
    return MetricsJob(
        user=_first(both, "user"),
        account=_first(both, "account"),
        partition=_first(both, "partition"),
        name=_first(both, "job_name"),
        nodes=tuple(nodes),
        gpus=sum(len(list(filter(None, series.labels.get("gpus", "").split(",")))) for series in infos),
        container=_first(infos, "container"),
        image=_first(both, "image"),
        nccl=_first(both, "nccl"),
        start_time_s=min((series.value for series in starts), default=min(seen, default=0.0)),
        last_seen_s=max(seen, default=0.0),
    )


def measure_job(
    prometheus: PrometheusClient, job_id: int, nodes: Sequence[str], start_s: float, end_s: float, cluster: str = ""
) -> list[Course]:
    """Give how busy a job's nodes and GPUs were: of each measure the mean first, then each node where there are more.

    CPU and memory are those of whole nodes, whoever used them; GPUs are the job's own. A measure that nobody took is
    missing.

    Raises:
        PrometheusUnavailable, QueryRefused: it cannot be asked.
    """
    if not nodes or end_s <= start_s:
        return []
    step_s = _step(start_s, end_s)
    # The last point is at the end: what a short job's only two samples say is known no earlier.
    first_s = end_s - int((end_s - start_s) / step_s) * step_s
    courses: list[Course] = []
    for measure in MEASURES:
        query = _query(measure, job_id, nodes, max(_SHORTEST_WINDOW_S, step_s), cluster)
        by_node = {
            series.labels.get("node", ""): [point for point in series.points if point[1] == point[1]]
            for series in prometheus.query_range(query, first_s, end_s, step_s)
        }
        by_node = {node: by_node[node] for node in sorted(by_node) if by_node[node]}
        if by_node:
            courses.append(Course(measure, "", _mean(by_node.values())))
            if len(by_node) > 1:
                courses += [Course(measure, node, points) for node, points in by_node.items()]
    return courses


def count_points(start_s: float, end_s: float) -> int:
    """Give how many points a course over this time has where none is missing."""
    return int((end_s - start_s) / _step(start_s, end_s)) + 1


def _step(start_s: float, end_s: float) -> float:
    # In whole milliseconds, rounded down: every point lies within the time.
    return max(_SHORTEST_STEP_S, int((end_s - start_s) / (POINTS - 1) * 1000) / 1000)


def _query(measure: Measure, job_id: int, nodes: Sequence[str], window_s: float, cluster: str) -> str:
    """Give a query that yields a series for each node: of the recording rules, or of raw metrics where they lack."""
    job = _of_job(job_id, cluster)
    which = f"node=~{one_of(nodes)}{_of_cluster(cluster)}"
    # A GPU's series joins its job's: the job may have some of a node's GPUs only.
    own = f"on (node, gpu) group_left () max by (node, gpu) (slurm_fsx_job_gpu_info{{{job}}})"
    if measure is CPU:
        rule, scale = "cpu_utilization", " * 100"
        raw = f"100 * {node_cpu_utilization('node', window_s, f'{which},')}"
    elif measure is MEMORY:
        rule, scale = "memory_utilization", " * 100"
        free, total = (f"avg by (node) (node_memory_{name}_bytes{{{which}}})" for name in ("MemAvailable", "MemTotal"))
        raw = f"100 * (1 - {free} / {total})"
    elif measure is GPU:
        rule, scale = "gpu_utilization", " * 100"
        raw = f"avg by (node) (DCGM_FI_DEV_GPU_UTIL{{{which}}} * {own})"
    else:
        rule, scale = "gpu_memory_used_bytes", f" / {1 << 30}"
        raw = f"avg by (node) (DCGM_FI_DEV_FB_USED{{{which}}} * {own}) / 1024"  # from MiB
    series = f"slurm_fsx:job_{rule}{{{job}}}"
    # The mean since the point before, where rules have computed what is the job's alone; else what was then.
    means = f"avg by (node) (avg_over_time({series}[{window_s:.0f}s])){scale}"
    return f"{means} or avg by (node) ({series}){scale} or {raw}"


def _of_job(job_id: int, cluster: str) -> str:
    return f"jobid={quote(str(job_id))}{_of_cluster(cluster)}"


def _of_cluster(cluster: str) -> str:
    """Give the condition on the cluster's name; a metric without one is of the only cluster there is."""
    return f",cluster=~{one_of((cluster, ''))}" if cluster else ""


def _times(prometheus: PrometheusClient, metric: str, labels: str, span: str) -> list[float]:
    """Give the first and the last time that each series of a metric was seen, to the minute where that will do."""
    by_minute = f"timestamp({metric}{labels})[{span}:1m]"
    times = [
        series.value
        for query in (f"min_over_time({by_minute})", f"max_over_time({by_minute})")
        for series in prometheus.query(query)
    ]
    if times and max(times) - min(times) > _SHORT_S:
        return times
    # A short job has few samples, and may fall between two minutes: all of them can be looked at.
    at_s = None
    if times:
        at_s, span = max(times) + 60, f"{int(max(times) - min(times)) + 180}s"
    return [when for series in prometheus.query(f"{metric}{labels}[{span}]", at_s) for when, _ in series.points]


def _mean(courses: Iterable[list[tuple[float, float]]]) -> list[tuple[float, float]]:
    values: dict[float, list[float]] = {}
    for points in courses:
        for when, value in points:
            values.setdefault(when, []).append(value)
    return [(when, sum(found) / len(found)) for when, found in sorted(values.items())]


def _first(found: Iterable[Series], label: str) -> str:
    return next((series.labels[label] for series in found if series.labels.get(label)), "")
