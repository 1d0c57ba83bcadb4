"""Slurm's trouble; its good answers are tried on a real cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurm_fsx_tools.errors import SlurmUnavailable
from slurm_fsx_tools.slurm.commands import CommandClient, Partition


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


@pytest.mark.parametrize("release", ["22.05", "24.11", "26.05"])
def test_partitions_say_whether_they_take_jobs(squeue, data: Path, release: str) -> None:
    client = squeue(f"cat {data}/{release}/partitions.txt")
    assert client.partitions() == {
        "all": Partition("all", is_up=True, is_default=True),
        "old": Partition("old", is_up=False, is_default=False),
        "big": Partition("big", is_up=True, is_default=False),
    }


def test_an_answer_that_is_no_list_of_partitions_does_not_pass_for_one(squeue) -> None:
    with pytest.raises(SlurmUnavailable, match="scontrol answered 'slurm is busy'"):
        squeue("echo slurm is busy").partitions()
    assert squeue("echo No partitions in the system").partitions() == {}


@pytest.mark.parametrize(("said", "release"), [("slurm-wlm 22.05.8", (22, 5)), ("slurm 24.11.5-1", (24, 11))])
def test_the_release_is_that_of_the_commands(sinfo, said: str, release: tuple[int, int]) -> None:
    assert sinfo(said).release() == release
