"""What sacct prints of past jobs."""

from __future__ import annotations

import pytest

from slurm_fsx_tools.errors import SlurmUnavailable
from slurm_fsx_tools.slurm.accounting import past_job, read_job

TRES = "billing=2,cpu=2,gres/gpu=16,gres/gpu:h100=16,node=2"
LINE = f"7|2001|ada|COMPLETED|1795547691|1795551291|2|{TRES}|n[1-2]|gpu|physics|train"


def test_a_past_job_is_read() -> None:
    job = read_job(LINE, 7)
    assert job is not None
    assert (job.id, job.uid, job.user, job.account, job.name) == (7, 2001, "ada", "physics", "train")
    assert (job.state, job.nodes, job.node_count, job.gpus) == ("COMPLETED", "n[1-2]", 2, 16)
    assert job.end_time_s - job.start_time_s == 3600


def test_a_cancelled_job_that_never_had_a_node_is_read() -> None:
    job = read_job("7|2001|ada|CANCELLED by 2001|None|Unknown|1||None assigned|gpu|physics|a|b", 7)
    assert job is not None
    assert (job.state, job.nodes, job.start_time_s, job.end_time_s) == ("CANCELLED", "", 0, 0)
    assert job.name == "a|b"


def test_another_jobs_line_in_a_name_is_not_believed() -> None:
    job = read_job(f"{LINE}\n7|0|root|FAILED|0|0|1||n9|gpu|x|y\n", 7)
    assert job is not None
    assert (job.user, job.name) == ("ada", "train")
    assert read_job(LINE, 8) is None


def test_an_answer_that_is_no_job_does_not_pass_for_one() -> None:
    with pytest.raises(SlurmUnavailable, match="sacct answered"):
        read_job("7|2001|ada", 7)


def test_without_accounting_there_is_no_past_job(commands) -> None:
    commands({"sacct": "echo 'Slurm accounting storage is disabled' >&2; exit 1"})
    assert past_job(7) is None


def test_accounting_that_is_away_is_told(commands) -> None:
    commands({"sacct": "echo 'sacct: error: slurm_persist_conn_open: Connection refused' >&2; exit 1"})
    with pytest.raises(SlurmUnavailable, match="Connection refused"):
        past_job(7)
