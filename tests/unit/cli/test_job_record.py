"""A job's record, put together of what Slurm and Prometheus know."""

from __future__ import annotations

from slurm_fsx_tools.cli.job_record import OVER, join
from slurm_fsx_tools.monitoring.job_record.history import MetricsJob
from slurm_fsx_tools.slurm_state import SlurmJob

NOW_S = 10_000.0
SLURM = SlurmJob(
    *(7, "ada", 2001, "physics", "gpu", "train", "RUNNING", "n[1-2]", 2, 16, 9_000.0),
    end_time_s=99_999.0,
)
METRICS = MetricsJob(
    *("ada", "", "gpu", "trai", ("n1", "n2"), 15, "pytorch", "pytorch-24.03.sqsh", "2.28.7", 9_001.0, 9_990.0)
)


def test_slurms_word_counts_and_metrics_fill_in() -> None:
    record = join(7, SLURM, "Slurm", METRICS, (), (), NOW_S)
    assert (record.name, record.account, record.gpus, record.start_time_s) == ("train", "physics", 16, 9_000)
    assert (record.nodes, record.state, record.end_time_s) == (("n1", "n2"), "RUNNING", 0)
    assert (record.container, record.images, record.nccl) == ("pytorch", ("pytorch-24.03.sqsh",), ("2.28.7",))
    assert record.told_by == ("Slurm", "Prometheus")


def test_marks_count_before_metrics() -> None:
    record = join(7, SLURM, "Slurm", METRICS, ("other.sqsh",), ("a", "b"), NOW_S)
    assert (record.images, record.nccl) == (("other.sqsh",), ("a", "b"))


def test_a_job_that_has_ended_has_an_end() -> None:
    record = join(7, SLURM._replace(state="COMPLETED", end_time_s=9_500), "accounting", None, (), (), NOW_S)
    assert (record.state, record.end_time_s, record.told_by) == ("COMPLETED", 9_500, ("accounting",))


def test_metrics_alone_say_that_a_job_has_ended_and_not_how() -> None:
    old = METRICS._replace(last_seen_s=9_500)
    record = join(7, None, "", old, (), (), NOW_S)
    assert (record.state, record.end_time_s, record.start_time_s) == (OVER, 9_500, 9_001)
    assert (record.user, record.nodes, record.gpus, record.told_by) == ("ada", ("n1", "n2"), 15, ("Prometheus",))


def test_where_slurm_is_away_a_job_may_still_run() -> None:
    record = join(7, None, "", METRICS, (), (), NOW_S, slurm_answers=False)
    assert (record.state, record.end_time_s) == ("", 0)


def test_a_user_without_a_name_is_shown_by_number() -> None:
    record = join(7, SLURM._replace(user=""), "Slurm", None, (), (), NOW_S)
    assert record.user == "2001"
    assert join(7, SLURM._replace(user="", uid=0), "Slurm", METRICS, (), (), NOW_S).user == "ada"
