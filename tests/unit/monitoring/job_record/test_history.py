"""What a real Prometheus remembers of jobs: samples of the past are given to it, as its exporters would have."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from slurm_fsx_tools.monitoring.job_record.history import POINTS, count_points, find_job, measure_job
from slurm_fsx_tools.monitoring.prometheus.query import PrometheusClient

from ..server import run_prometheus

DAY_S = 86400
NOW_S = int(time.time()) // 60 * 60
START_S = NOW_S - 7200
END_S = NOW_S - 3600
SHORT_S = NOW_S - 5000 // 60 * 60 + 20
"""Between two full minutes."""


def samples() -> Iterator[str]:
    def series(name: str, labels: str, values: dict[int, float]) -> Iterator[str]:
        yield f"# TYPE {name} gauge"
        for when_s, value in values.items():
            yield f"{name}{{{labels}}} {value} {when_s}"

    during = range(START_S, END_S + 1, 15)
    long = 'cluster="east",jobid="7",user="ada",partition="gpu"'
    other = 'cluster="west",jobid="7",user="eve",partition="cpu"'
    short = 'cluster="east",jobid="8",user="bob",partition="gpu"'
    yield "# TYPE slurm_fsx_job_info gauge"
    for node in ("n1", "n2"):
        more = f'node="{node}",gpus="0,1",container="pytorch",image="p.sqsh",nccl="2.28.7"'
        yield from (f"slurm_fsx_job_info{{{long},{more}}} 1 {when_s}" for when_s in during)
    yield from (f'slurm_fsx_job_info{{{other},node="c9",gpus=""}} 1 {when_s}' for when_s in during)
    yield from (f'slurm_fsx_job_info{{{short},node="n3",gpus="0"}} 1 {SHORT_S + after_s}' for after_s in (0, 15))
    idle = {SHORT_S: 100.0, SHORT_S + 15: 106.0}
    yield from series("node_cpu_seconds_total", 'cluster="east",node="n3",cpu="0",mode="idle"', idle)
    head = 'cluster="east",jobid="7",user="ada",account="physics",job_name="train"'
    yield from series("slurm_fsx_cluster_job_info", head, dict.fromkeys(during, 1.0))
    yield from series("slurm_fsx_job_start_time_seconds", 'cluster="east",jobid="7",node="n1"', {START_S: START_S})
    yield "# TYPE slurm_fsx_job_gpu_info gauge"
    yield from (f'slurm_fsx_job_gpu_info{{cluster="east",jobid="7",node="n1",gpu="1"}} 1 {when_s}' for when_s in during)
    yield "# TYPE DCGM_FI_DEV_GPU_UTIL gauge"
    for gpu, value in ((0, 5), (1, 90)):
        labels = f'cluster="east",node="n1",gpu="{gpu}"'
        yield from (f"DCGM_FI_DEV_GPU_UTIL{{{labels}}} {value} {when_s}" for when_s in range(START_S - 600, NOW_S, 15))
    yield "# TYPE slurm_fsx:job_memory_utilization gauge"
    for node, parts in (("n1", (0.4, 0.6)), ("n2", (0.7, 0.7))):
        labels = f'cluster="east",jobid="7",node="{node}"'
        yield from (
            f"slurm_fsx:job_memory_utilization{{{labels}}} {parts[when_s // 15 % 2]} {when_s}" for when_s in during
        )
    yield "# EOF\n"


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusClient]:
    with run_prometheus(tmp_path_factory.mktemp("prometheus"), "\n".join(samples())) as client:
        yield client


def test_a_past_job_is_put_together_of_what_nodes_and_head_said(prometheus: PrometheusClient) -> None:
    job = find_job(prometheus, 7, DAY_S, "east")
    assert job is not None
    assert (job.user, job.account, job.partition, job.name) == ("ada", "physics", "gpu", "train")
    assert (job.nodes, job.gpus) == (("n1", "n2"), 4)
    assert (job.container, job.image, job.nccl) == ("pytorch", "p.sqsh", "2.28.7")
    assert job.start_time_s == START_S
    assert abs(job.last_seen_s - END_S) <= 60


def test_another_clusters_job_of_the_same_number_is_another_one(prometheus: PrometheusClient) -> None:
    job = find_job(prometheus, 7, DAY_S, "west")
    assert job is not None
    assert (job.user, job.nodes, job.account) == ("eve", ("c9",), "")
    assert find_job(prometheus, 8, DAY_S, "west") is None


def test_a_job_that_was_over_within_a_minute_is_remembered(prometheus: PrometheusClient) -> None:
    job = find_job(prometheus, 8, DAY_S, "east")
    assert job is not None
    assert (job.start_time_s, job.last_seen_s) == (SHORT_S, SHORT_S + 15)


def test_what_lies_before_the_retention_is_not_looked_for(prometheus: PrometheusClient) -> None:
    assert find_job(prometheus, 7, 600, "east") is None
    assert find_job(prometheus, 99, DAY_S) is None


def test_only_the_jobs_own_gpus_count_and_rules_are_used_where_they_are(prometheus: PrometheusClient) -> None:
    courses = measure_job(prometheus, 7, ("n1", "n2"), START_S, END_S, "east")
    assert [(course.measure.name, course.node, round(course.mean)) for course in courses] == [
        ("memory", "", 60.0),
        ("memory", "n1", 50.0),
        ("memory", "n2", 70.0),
        ("GPU", "", 90.0),
    ]
    assert {len(course.points) for course in courses} == {POINTS}
    assert count_points(START_S, END_S) == POINTS


def test_a_point_is_the_mean_since_the_point_before(prometheus: PrometheusClient) -> None:
    courses = measure_job(prometheus, 7, ("n1", "n2"), START_S, END_S, "east")
    (changing,) = (course for course in courses if (course.measure.name, course.node) == ("memory", "n1"))
    # 40 and 60 in turn, every 15 s; a point has four samples or five behind it, the first fewer.
    assert all(48 <= value <= 52 for _, value in changing.points[1:])


def test_a_job_of_two_samples_has_a_rate_at_its_end(prometheus: PrometheusClient) -> None:
    (course,) = measure_job(prometheus, 8, ("n3",), SHORT_S - 0.6, SHORT_S + 15, "east")
    assert course.measure.name == "CPU"
    assert course.points == [(SHORT_S + 15, pytest.approx(60.0))]


def test_without_nodes_or_time_there_is_nothing_to_measure(prometheus: PrometheusClient) -> None:
    assert measure_job(prometheus, 7, (), START_S, END_S) == []
    assert measure_job(prometheus, 7, ("n1",), END_S, START_S) == []
