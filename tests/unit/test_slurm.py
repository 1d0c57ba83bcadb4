"""Slurm's trouble; its good answers are tried on a real cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurm_fsx_tools.errors import SlurmUnavailable
from slurm_fsx_tools.slurm import CommandClient


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes a squeue in trouble of a shell script."""

    def make(script: str) -> CommandClient:
        (tmp_path / "squeue").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "squeue").chmod(0o755)
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


@pytest.mark.parametrize("answer", ["slurm is busy", "7_2 RUNNING", "-1 RUNNING", "RUNNING"])
def test_an_answer_that_is_no_list_of_jobs_does_not_pass_for_one(squeue, answer: str) -> None:
    with pytest.raises(SlurmUnavailable, match="squeue answered"):
        squeue(f"echo '7 RUNNING'; echo '{answer}'").active_jobs()


def test_a_users_own_settings_of_squeue_do_not_choose_the_jobs(squeue, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SQUEUE_STATES", "SQUEUE_USERS", "SLURM_CLUSTERS", "SLURM_TIME_FORMAT"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm/slurm.conf")
    found = squeue("env | grep -q '^SQUEUE_\\|^SLURM_CLUSTERS' && exit 1; [ -n \"$SLURM_CONF\" ] && echo '7 RUNNING'")
    assert found.active_jobs() == {7}


@pytest.fixture
def sinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes a sinfo of what it is to say: the lab's GPUs have no types."""

    def make(text: str) -> CommandClient:
        (tmp_path / "sinfo").write_text(f"#!/bin/sh\ncat <<'EOF'\n{text}\nEOF\n")
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
