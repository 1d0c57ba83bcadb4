"""Slurm's text, tried on what real clusters answered, and on what users may write into it."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurm_fsx_tools.errors import SlurmUnavailable
from slurm_fsx_tools.slurm.json_client import JsonClient
from slurm_fsx_tools.slurm.text_client import TextClient, read_gpus, read_jobs, read_nodes

from .conftest import RELEASES

WORD = "5f3a"


def job(*fields: str) -> str:
    """Write a job as squeue does with the format that it is given."""
    return f"{WORD}>" + f"{WORD}|".join(fields) + "\n"


def running(number: int, name: str, account: str = "physics") -> str:
    return job(
        *(str(number), "2001", "RUNNING", "ada", account, "gpu", "n[1-2]", "2", "1795547691", "N/A"),
        name,
    )


@pytest.mark.parametrize("release", RELEASES)
def test_text_says_of_nodes_what_json_says(recorded, release: str) -> None:
    recorded(release)
    assert TextClient().nodes() == JsonClient().nodes()


def test_a_reason_that_spells_other_values_changes_none(data: Path) -> None:
    text = (data / "22.05/nodes.txt").read_text()
    assert "Reason=bad disk State=IDLE Partitions=x" in text
    assert [(node.state, node.partitions) for node in read_nodes(text) if node.name == "n3"] == [
        ("drained", ("all", "big", "old"))
    ]


def test_a_comment_that_goes_on_in_another_line_is_no_node(data: Path) -> None:
    text = (data / "22.05/nodes.txt").read_text().replace("bad disk", "bad\ndisk")
    assert [node.name for node in read_nodes(text)] == ["n1", "n2", "n3", "n4"]


def test_an_older_mark_of_silence_is_seen() -> None:
    (node,) = read_nodes("NodeName=n1 State=DOWN*+CLOUD Partitions=all Reason=off\n")
    assert (node.state, node.marks) == ("down", "*")


@pytest.mark.parametrize("answer", ["slurm is busy", "NodeName=n1 Arch=x86_64", "Node n9 not found"])
def test_an_answer_that_is_no_list_of_nodes_does_not_pass_for_one(answer: str) -> None:
    with pytest.raises(SlurmUnavailable, match="scontrol answered"):
        read_nodes(answer)


def test_a_cluster_without_nodes_has_none() -> None:
    assert read_nodes("No nodes in the system\n") == []


def test_a_job_is_read_from_its_fields() -> None:
    (found,) = read_jobs(running(7, "train"), WORD)
    assert (found.id, found.uid, found.user, found.account) == (7, 2001, "ada", "physics")
    assert (found.partition, found.state, found.nodes, found.node_count) == ("gpu", "RUNNING", "n[1-2]", 2)
    assert (found.name, found.start_time_s, found.end_time_s) == ("train", 1795547691.0, 0.0)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("a|b|c", id="separators"),
        pytest.param("x\n9|0|RUNNING|root|root|all|n1|1|0|0|y", id="a job in another line"),
        pytest.param("x\nJobId=9 UserId=root(0)", id="scontrol's words"),
        pytest.param("x\n>9", id="half a mark"),
        pytest.param("(null)", id="nothing"),
        pytest.param("", id="empty"),
        pytest.param("tab\tand \x1b[31mred", id="control characters"),
    ],
)
def test_a_users_text_is_never_more_than_a_name(name: str) -> None:
    jobs = read_jobs(running(7, name) + running(8, "next", account=name), WORD)
    assert [(found.id, found.uid) for found in jobs] == [(7, 2001), (8, 2001)]
    assert jobs[0].name == name
    assert jobs[1].account == ("" if name == "(null)" else name)


def test_the_word_is_another_one_each_time(commands, tmp_path: Path) -> None:
    commands({"squeue": f'echo "$*" >> {tmp_path}/asked'})
    for _ in range(2):
        assert TextClient().jobs() == []
    first, second = (tmp_path / "asked").read_text().splitlines()
    assert first != second


def test_a_waiting_job_has_no_gpus_yet() -> None:
    text = job("7", "2001", "PENDING", "ada", "(null)", "gpu", "", "2", "N/A", "N/A", "train")
    (found,) = read_jobs(text, WORD)
    assert (found.gpus, found.nodes, found.account) == (0, "", "")


def columns(*values: str) -> str:
    return "".join(value.ljust(width) for value, width in zip(values, (12, 12, 12, 160, 64, 64, 64))) + "\n"


@pytest.mark.parametrize(
    ("values", "gpus"),
    [
        pytest.param(("2", "2", "cpu=2,node=2,gres/gpu=3", "gres:gpu:2", "N/A", "N/A"), 3, id="as allocated"),
        pytest.param(("2", "2", "cpu=2,node=2,billing=2", "gres:gpu:3", "N/A", "N/A"), 3, id="a job's"),
        pytest.param(("2", "2", "cpu=2", "N/A", "gres/gpu:h100:4", "N/A"), 8, id="each node's"),
        pytest.param(("1", "2", "cpu=2", "N/A", "N/A", "gres/gpu=1"), 2, id="each task's"),
        pytest.param(("1", "1", "N/A", "N/A", "N/A", "N/A"), 0, id="none"),
    ],
)
def test_gpus_are_those_allocated_or_asked_for(values: tuple[str, ...], gpus: int) -> None:
    """As 22.05 and 24.11 print them. Where AccountingStorageTRES lacks gres/gpu, allocations do not tell of GPUs."""
    assert read_gpus(columns("7", *values) + columns("8", "1", "1", *["N/A"] * 4)) == {7: gpus, 8: 0}


def test_what_is_no_column_of_numbers_is_not_believed() -> None:
    with pytest.raises(SlurmUnavailable, match="squeue answered"):
        read_gpus("slurm is busy\n")


@pytest.mark.parametrize(
    "answer",
    ["slurm is busy", f"{WORD}>7{WORD}|2001", job("x", *["1"] * 10), f"slurm is busy\n{running(7, 'train')}"],
)
def test_an_answer_that_is_no_list_of_jobs_does_not_pass_for_one(answer: str) -> None:
    with pytest.raises(SlurmUnavailable, match="squeue answered"):
        read_jobs(answer, WORD)


def test_a_job_that_slurm_has_forgotten_is_none(commands) -> None:
    commands({"squeue": "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"})
    assert TextClient().job(5) is None
