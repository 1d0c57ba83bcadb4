"""Slurm's trouble; its good answers are tried on a real cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurm_fsx_tools.errors import SlurmUnavailable
from slurm_fsx_tools.slurm import CommandClient


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes Slurm's commands in trouble of a shell script."""

    def make(script: str) -> CommandClient:
        for name in ("squeue", "scontrol"):
            (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / name).chmod(0o755)
        return CommandClient(timeout_s=5)

    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return make


def test_without_slurms_commands_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SlurmUnavailable, match="squeue is not installed"):
        CommandClient().active_jobs()


def test_a_controller_that_is_away_is_told_in_its_own_words(squeue) -> None:
    client = squeue("echo one >&2; echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(SlurmUnavailable, match="ended with 1: slurm_load_jobs error: Unable to contact"):
        client.active_jobs()


def test_a_squeue_that_hangs_is_ended(squeue) -> None:
    squeue("exec sleep 60")
    with pytest.raises(SlurmUnavailable, match=r"gave no answer within 0\.2 s"):
        CommandClient(timeout_s=0.2).active_jobs()


@pytest.mark.parametrize(
    "answer", ["slurm is busy", "7_2 0 RUNNING", "-1 0 RUNNING", "7 ada RUNNING", "7 RUNNING", "RUNNING"]
)
def test_an_answer_that_is_no_list_of_jobs_does_not_pass_for_one(squeue, answer: str) -> None:
    with pytest.raises(SlurmUnavailable, match="squeue answered"):
        squeue(f"echo '7 2001 RUNNING'; echo '{answer}'").active_jobs()


def test_a_users_own_settings_of_squeue_do_not_choose_the_jobs(squeue, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SQUEUE_STATES", "SQUEUE_USERS", "SLURM_CLUSTERS", "SLURM_TIME_FORMAT"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm/slurm.conf")
    found = squeue(
        "env | grep -q '^SQUEUE_\\|^SLURM_CLUSTERS' && exit 1; [ -n \"$SLURM_CONF\" ] && echo '7 2001 RUNNING'"
    )
    assert found.active_jobs() == {7: 2001}


def test_a_cluster_whose_slurm_does_not_answer_has_no_name(squeue) -> None:
    assert squeue("exit 1").cluster_name() == ""
    assert squeue("echo Configuration data as of today").cluster_name() == ""
    assert squeue("echo 'ClusterName             = east'; echo 'X = ClusterName'").cluster_name() == "east"


@pytest.fixture
def sinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes a sinfo that gives an answer."""

    def make(answer: str) -> CommandClient:
        (tmp_path / "sinfo").write_text(f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\n")
        (tmp_path / "sinfo").chmod(0o755)
        return CommandClient(timeout_s=5)

    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return make


@pytest.mark.parametrize(
    ("word", "takes_jobs", "is_down", "is_powered_off"),
    [
        pytest.param("idle", True, False, False, id="idle"),
        pytest.param("mixed", True, False, False, id="mixed"),
        pytest.param("allocated", True, False, False, id="allocated"),
        pytest.param("mixed-", True, False, False, id="planned"),
        pytest.param("allocated+", True, False, False, id="with a completing job"),
        pytest.param("idle*", False, True, False, id="no answer"),
        pytest.param("down*", False, True, False, id="down"),
        pytest.param("drained", False, False, False, id="drained"),
        pytest.param("draining@", False, False, False, id="draining, to be rebooted"),
        pytest.param("idle~", False, False, True, id="powered off"),
        pytest.param("mixed#", False, False, True, id="powering up"),
        pytest.param("powered_down", False, True, True, id="a newer release's word"),
        pytest.param("inval", False, False, False, id="a word nobody knows"),
    ],
)
def test_a_nodes_state_says_what_can_be_done_with_it(
    sinfo, word: str, takes_jobs: bool, is_down: bool, is_powered_off: bool
) -> None:
    (node,) = sinfo(f"n1|{word}|all*|up|(null)").nodes()
    assert (node.takes_jobs, node.is_down, node.is_powered_off) == (takes_jobs, is_down, is_powered_off)


def test_a_node_is_given_once_with_its_default_partition(sinfo) -> None:
    nodes = sinfo("n1|idle|big|up|(null)\nn1|idle|all*|up|(null)\nn2|idle|old|inact|(null)\nn2|idle|big|up|(null)")
    assert [(node.name, node.partition) for node in nodes.nodes()] == [("n1", "all"), ("n2", "big")]


def test_a_node_in_no_partition_that_is_up_takes_no_job(sinfo) -> None:
    (node,) = sinfo("n1|idle|all*|down|(null)").nodes()
    assert not node.takes_jobs


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [
        pytest.param("(null)", 0, id="none"),
        pytest.param("gpu:8", 8, id="plain"),
        pytest.param("gpu:a100:8(S:0-1)", 8, id="type and sockets"),
        pytest.param("gpu:a100:4(S:0),gpu:t4:2(S:1),nic:16", 6, id="two types, and another thing"),
        pytest.param("nic:16", 0, id="another thing alone"),
    ],
)
def test_a_nodes_gpus_are_counted(sinfo, gres: str, gpus: int) -> None:
    (node,) = sinfo(f"n1|idle|all*|up|{gres}").nodes()
    assert node.gpus == gpus


@pytest.mark.parametrize("answer", ["slurm is busy", "n1|idle", "|idle|all|up|(null)"])
def test_an_answer_that_is_no_list_of_nodes_does_not_pass_for_one(sinfo, answer: str) -> None:
    with pytest.raises(SlurmUnavailable, match="sinfo answered"):
        sinfo(answer).nodes()


@pytest.mark.parametrize(
    ("text", "types"),
    [
        pytest.param("(null)", [], id="none"),
        pytest.param("gpu:4", [], id="without-type"),
        pytest.param("gpu:h100:8(S:0-1)\ngpu:a100:8(S:0,1),nic:16", ["a100", "h100"], id="with-sockets"),
        pytest.param("nic:2,gpu:nvidia_h200:8", ["nvidia_h200"], id="behind-another"),
    ],
)
def test_types_of_gpus_are_read_from_generic_resources(sinfo, text: str, types: list[str]) -> None:
    assert sinfo(text).gpu_types("gpu") == types
