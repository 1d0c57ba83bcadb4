"""Slurm's words."""

from __future__ import annotations

import pytest

from slurm_fsx_tools.slurm.states import Partition, choose_partition, count_gpus, job_state, node_state
from slurm_fsx_tools.slurm_state import SlurmNode


@pytest.mark.parametrize(
    ("words", "shown", "takes_jobs", "is_down", "is_powered_off"),
    [
        pytest.param("IDLE", "idle", True, False, False, id="idle"),
        pytest.param("MIXED", "mixed", True, False, False, id="mixed"),
        pytest.param("MIXED+PLANNED", "mixed-", True, False, False, id="planned"),
        pytest.param("ALLOCATED+COMPLETING", "allocated+", True, False, False, id="with a completing job"),
        pytest.param("IDLE+COMPLETING", "completing", True, False, False, id="completing"),
        pytest.param("IDLE+NOT_RESPONDING", "idle*", False, True, False, id="no answer"),
        pytest.param("DOWN+NOT_RESPONDING", "down*", False, True, False, id="down"),
        pytest.param("IDLE+DRAIN", "drained", False, False, False, id="drained"),
        pytest.param("MIXED+DRAIN", "draining", False, False, False, id="draining"),
        pytest.param("IDLE+COMPLETING+DRAIN", "draining", False, False, False, id="draining, at its end"),
        pytest.param("MIXED+DRAIN+REBOOT_REQUESTED", "draining@", False, False, False, id="draining, to be rebooted"),
        pytest.param("IDLE+CLOUD+POWERED_DOWN", "idle~", False, False, True, id="powered off"),
        pytest.param("MIXED+CLOUD+POWERING_UP", "mixed#", False, False, True, id="powering up"),
        pytest.param("IDLE+CLOUD+POWER_DOWN", "idle!", False, False, True, id="to be powered down"),
        pytest.param("IDLE+MAINTENANCE", "maint$", False, False, False, id="maintenance"),
        pytest.param("IDLE+RESERVED", "reserved", False, False, False, id="reserved"),
        pytest.param("DOWN+INVALID_REG", "inval", False, False, False, id="not as configured"),
        pytest.param("FAIL+IDLE", "fail", False, False, False, id="about to fail"),
        pytest.param("QUANTUM", "quantum", False, False, False, id="a word nobody knows"),
        pytest.param("", "unknown", False, True, False, id="none"),
    ],
)
def test_a_nodes_state_says_what_can_be_done_with_it(
    words: str, shown: str, takes_jobs: bool, is_down: bool, is_powered_off: bool
) -> None:
    state, marks = node_state(filter(None, words.split("+")))
    assert state + marks == shown
    node = SlurmNode("n1", state, marks, partition="all")
    assert (node.takes_jobs, node.is_down, node.is_powered_off) == (takes_jobs, is_down, is_powered_off)


@pytest.mark.parametrize(
    ("words", "state"),
    [
        (["RUNNING"], "RUNNING"),
        (["COMPLETED", "COMPLETING"], "COMPLETING"),
        (["RUNNING", "CONFIGURING"], "CONFIGURING"),
        (["CANCELLED"], "CANCELLED"),
        ([], ""),
    ],
)
def test_a_jobs_state_is_what_squeue_shows_of_it(words: list[str], state: str) -> None:
    assert job_state(words) == state


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [
        pytest.param("(null)", 0, id="none"),
        pytest.param("gpu:8", 8, id="plain"),
        pytest.param("gpu:a100:8(S:0-1)", 8, id="type and sockets"),
        pytest.param("gpu:a100:4(S:0),gpu:t4:2(S:1),nic:16", 6, id="two types, and another thing"),
        pytest.param("nic:16", 0, id="another thing alone"),
        pytest.param("gres:gpu:2", 2, id="asked for, in 22.05"),
        pytest.param("gres/gpu:h100:2", 2, id="asked for, in 24.11"),
        pytest.param("gpu:1(IDX:0)", 1, id="given"),
        pytest.param("cpu=2,gres/gpu=2,gres/gpu:h100=2", 2, id="counted by Slurm"),
    ],
)
def test_gpus_are_counted(gres: str, gpus: int) -> None:
    assert count_gpus(gres) == gpus


def test_jobs_go_to_the_default_partition_of_those_that_are_up() -> None:
    known = {
        "all": Partition("all", is_up=True, is_default=True),
        "big": Partition("big", is_up=True, is_default=False),
        "old": Partition("old", is_up=False, is_default=False),
    }
    assert choose_partition(("big", "all"), known) == "all"
    assert choose_partition(("old", "big"), known) == "big"
    assert choose_partition(("old", "gone"), known) == ""
