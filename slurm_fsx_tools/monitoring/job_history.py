"""What Prometheus knows of a job, running or past: what it was, and how busy its nodes and GPUs were."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .query import one_of, quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .query import PrometheusClient, Series

POINTS = 60
"""How many points a course has, at most."""

_SHORTEST_STEP_S = 1.0
_SHORTEST_WINDOW_S = 60.0
"""A rate takes two samples at least: four of the usual ones, which are 15 s apart."""


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


def find_job(prometheus: PrometheusClient, job_id: int, retention_s: float) -> MetricsJob | None:
    """Give what Prometheus remembers of a job; None where it remembers nothing.

    Args:
        prometheus: Where to ask.
        job_id: Slurm's id.
        retention_s: How far back to look.

    Raises:
        PrometheusUnavailable, QueryRefused: it cannot be asked.
    """
    labels = f"{{jobid={quote(str(job_id))}}}"
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
    prometheus: PrometheusClient, job_id: int, nodes: Sequence[str], start_s: float, end_s: float
) -> list[Course]:
    """Give how busy a job's nodes and GPUs were: of each measure the mean first, then each node where there are more.

    CPU and memory are those of whole nodes, whoever used them; GPUs are the job's own. A measure that nobody took is
    missing.

    Raises:
        PrometheusUnavailable, QueryRefused: it cannot be asked.
    """
    if not nodes or end_s <= start_s:
        return []
    step_s = max(_SHORTEST_STEP_S, (end_s - start_s) / (POINTS - 1))
    courses: list[Course] = []
    for measure in MEASURES:
        query = _query(measure, job_id, nodes, max(_SHORTEST_WINDOW_S, step_s))
        by_node = {
            series.labels.get("node", ""): [point for point in series.points if point[1] == point[1]]
            for series in prometheus.query_range(query, start_s, end_s, step_s)
        }
        by_node = {node: by_node[node] for node in sorted(by_node) if by_node[node]}
        if by_node:
            courses.append(Course(measure, "", _mean(by_node.values())))
            if len(by_node) > 1:
                courses += [Course(measure, node, points) for node, points in by_node.items()]
    return courses


def _query(measure: Measure, job_id: int, nodes: Sequence[str], window_s: float) -> str:
    """Give a query that yields a series for each node."""
    which = f"node=~{one_of(nodes)}"
    # A GPU's series joins its job's: several jobs may share a GPU, and the job may have some of a node's GPUs only.
    own = f"on (node, gpu) group_left () max by (node, gpu) (slurm_fsx_job_gpu_info{{jobid={quote(str(job_id))}}})"
    if measure is CPU:
        return f'100 * (1 - avg by (node) (rate(node_cpu_seconds_total{{mode="idle",{which}}}[{window_s:.0f}s])))'
    if measure is MEMORY:
        free, total = (f"avg by (node) (node_memory_{name}_bytes{{{which}}})" for name in ("MemAvailable", "MemTotal"))
        return f"100 * (1 - {free} / {total})"
    if measure is GPU:
        return f"avg by (node) (DCGM_FI_DEV_GPU_UTIL{{{which}}} * {own})"
    return f"avg by (node) (DCGM_FI_DEV_FB_USED{{{which}}} * {own}) / 1024"  # from MiB


def _times(prometheus: PrometheusClient, metric: str, labels: str, span: str) -> list[float]:
    """Give the first and the last time that each series of a metric was seen, to the minute where that will do."""
    by_minute = f"timestamp({metric}{labels})[{span}:1m]"
    times = [
        series.value
        for query in (f"min_over_time({by_minute})", f"max_over_time({by_minute})")
        for series in prometheus.query(query)
    ]
    if times:
        return times
    # A job that was over within a minute has few samples: all of them can be looked at.
    return [when for series in prometheus.query(f"{metric}{labels}[{span}]") for when, _ in series.points]


def _mean(courses: Iterable[list[tuple[float, float]]]) -> list[tuple[float, float]]:
    values: dict[float, list[float]] = {}
    for points in courses:
        for when, value in points:
            values.setdefault(when, []).append(value)
    return [(when, sum(found) / len(found)) for when, found in sorted(values.items())]


def _first(found: Iterable[Series], label: str) -> str:
    return next((series.labels[label] for series in found if series.labels.get(label)), "")
