"""One reader for the JSON of every release, tried on what real clusters answered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slurm_fsx_tools.errors import SlurmUnavailable
from slurm_fsx_tools.slurm import records
from slurm_fsx_tools.slurm.commands import CommandFailed, WayUnfit
from slurm_fsx_tools.slurm.json_client import JsonClient

from .conftest import RELEASES

FEATURES = ("static", "p5.48xlarge")


@pytest.mark.parametrize("release", RELEASES)
def test_nodes_of_every_release_read_the_same(recorded, data: Path, release: str) -> None:
    recorded(release)
    nodes = JsonClient().nodes()
    shown = dict(line.split() for line in (data / release / "states.txt").read_text().splitlines())
    assert {node.name: node.state + node.marks for node in nodes} == shown
    assert shown == {"n1": "mixed", "n2": "mixed", "n3": "drained", "n4": "idle%"}
    third = nodes[2]
    assert third.partitions == ("all", "big", "old")
    assert (third.partition, third.gpus, third.features, third.address) == ("all", 2, FEATURES, "10.0.0.3")
    assert nodes[3].is_powered_off


@pytest.mark.parametrize("release", RELEASES)
def test_jobs_of_every_release_read_the_same(data: Path, release: str) -> None:
    jobs = {job.id: job for job in records.jobs((data / release / "jobs.json").read_text())}
    train = jobs[1]
    assert (train.user, train.uid, train.account) == ("ada", 2001, "physics|bio")
    assert (train.state, train.nodes, train.node_count, train.gpus) == ("RUNNING", "n[1-2]", 2, 2)
    assert train.name == "train JobId=7 UserId=root(0)"
    assert train.start_time_s > 1.7e9
    assert {job.state for job in jobs.values()} >= {"RUNNING", "PENDING"}
    waiting = next(job for job in jobs.values() if job.state == "PENDING")
    assert (waiting.nodes, waiting.start_time_s, waiting.gpus) == ("", 0.0, 0)


@pytest.mark.parametrize("release", RELEASES)
def test_a_name_that_spells_another_job_makes_none(data: Path, release: str) -> None:
    jobs = records.jobs((data / release / "jobs.json").read_text())
    hostile = [job for job in jobs if "JobId=999" in job.name]
    assert [(job.user, job.uid) for job in hostile] == [("bob", 2002)] * 2
    assert 999 not in {job.id for job in jobs}


def test_a_job_that_has_ended_is_still_found_by_its_id(recorded) -> None:
    recorded("22.05")
    done = JsonClient().job(3)
    assert done is not None
    assert done.state == "COMPLETED"
    assert done.end_time_s >= done.start_time_s > 1.7e9


def test_a_job_that_slurm_has_forgotten_is_none(commands) -> None:
    commands({"squeue": "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"})
    assert JsonClient().job(5) is None


def test_all_jobs_are_not_asked_for_by_json_which_tells_each_core_of_each(commands, tmp_path: Path) -> None:
    commands({"squeue": f'echo "$*" >> {tmp_path}/asked'})
    assert JsonClient().jobs() == []
    assert "--json" not in (tmp_path / "asked").read_text()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param("slurm is busy", id="no JSON"),
        pytest.param("[]", id="a list"),
        pytest.param('{"sinfo": []}', id="another list"),
        pytest.param('{"nodes": {"n1": {}}}', id="no list"),
        pytest.param('{"nodes": [7]}', id="no record"),
        pytest.param('{"nodes": [{"name": "n1"}]}', id="a record without state"),
    ],
)
def test_an_answer_of_another_shape_does_not_pass_for_one(answer: str) -> None:
    with pytest.raises(WayUnfit):
        records.nodes(answer)


def test_a_slurm_without_json_is_passed_over_and_a_controller_that_is_away_is_not(commands) -> None:
    commands({"squeue": "echo 'squeue: error: Unable to load JSON plugin' >&2; exit 1"})
    with pytest.raises(WayUnfit, match="Unable to load JSON plugin"):
        JsonClient().job(5)
    commands({"squeue": "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1"})
    with pytest.raises(CommandFailed) as caught:
        JsonClient().job(5)
    assert not isinstance(caught.value, WayUnfit)
    assert isinstance(caught.value, SlurmUnavailable)


def test_a_node_in_a_partition_that_is_down_takes_no_job(commands, data: Path) -> None:
    node = {"name": "n1", "state": ["IDLE"], "partitions": ["old"]}
    commands(
        {
            "scontrol": f'case "$*" in *partitions*) cat {data}/24.11/partitions.txt;; '
            f"*) echo '{json.dumps({'nodes': [node]})}';; esac"
        }
    )
    (found,) = JsonClient().nodes()
    assert found.partitions == ("old",)
    assert not found.takes_jobs
