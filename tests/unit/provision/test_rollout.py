"""What becomes of nodes in a roll-out, and how it is told and remembered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from slurm_fsx_tools.provision.rollout import (
    Answer,
    NodeResult,
    exit_code,
    gather,
    last_words,
    remember,
    roll_out,
    unfinished,
)
from slurm_fsx_tools.provision.srun import Srun
from slurm_fsx_tools.provision.ssh import Ssh
from slurm_fsx_tools.slurm_state import SlurmNode


class Told:
    """A transport whose nodes give the answers that they were given."""

    name = "told"

    def __init__(self, answers: dict[str, int | None]) -> None:
        self._answers = answers
        self.reached: list[str] = []

    def why_not(self, node: SlurmNode) -> str:
        return "down" if node.is_down else ""

    def is_busy(self, answer: Answer) -> bool:
        return answer.code == 99

    def run(self, nodes: Sequence[SlurmNode], command: Sequence[str], on_answer: Callable[[Answer], None]) -> None:
        self.reached = [node.name for node in nodes]
        for name in reversed(self.reached):
            if name in self._answers:
                on_answer(Answer(name, self._answers[name], "said"))


def read(answer: Answer) -> NodeResult:
    return NodeResult(answer.node, "ok" if answer.code == 0 else "failed", last_words(answer) if answer.code else "")


def test_every_node_has_a_result_in_its_place() -> None:
    nodes = [SlurmNode(f"n{number}", "idle") for number in range(1, 6)]
    nodes += [SlurmNode("n6", "down"), SlurmNode("n7", "idle", "~")]
    told: list[str] = []
    transport = Told({"n1": 0, "n2": 3, "n3": None, "n4": 99})
    results = roll_out(nodes, ["true"], transport, read, lambda result: told.append(result.node))
    assert [(result.node, result.outcome, result.message) for result in results] == [
        ("n1", "ok", ""),
        ("n2", "failed", "ended with 3: said"),
        ("n3", "timed out", "no answer in time"),
        ("n4", "busy", "jobs fill it: run this again with --failed later, or with --by ssh"),
        ("n5", "failed", "told told nothing of it"),
        ("n6", "not tried", "down: not tried"),
        ("n7", "at boot", "powered off: it is set up when it boots"),
    ]
    assert sorted(told) == [node.name for node in nodes]
    assert transport.reached == ["n1", "n2", "n3", "n4", "n5"]


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        (["ok", "ok"], 0),
        (["ok", "at boot"], 0),
        (["ok", "failed"], 3),
        (["busy", "ok"], 3),
        (["not tried", "timed out"], 1),
    ],
)
def test_the_exit_code_says_whether_all_some_or_none_are_done(outcomes: list[str], code: int) -> None:
    assert exit_code([NodeResult(f"n{place}", outcome) for place, outcome in enumerate(outcomes)]) == code


def test_equal_messages_are_gathered_by_node_set_with_the_trouble_last() -> None:
    results = [NodeResult(f"n{number}", "ok", "in place") for number in (1, 2, 3, 7)]
    results += [NodeResult("n12", "failed", "n12 is full"), NodeResult("n13", "failed", "n13 is full")]
    results += [NodeResult("n5", "not tried", "down: not tried")]
    assert gather(results) == [
        ("n[1-3,7]", "ok", "in place"),
        ("n5", "not tried", "down: not tried"),
        ("n[12-13]", "failed", "it is full"),
    ]


def test_what_a_node_says_cannot_steer_a_terminal() -> None:
    assert last_words(Answer("n1", 1, "first\n\x1b[2Jlast\n\n")) == "ended with 1: \\x1b[2Jlast"
    assert last_words(Answer("n1", 1, "")) == "ended with 1: it said nothing"


def test_what_is_unfinished_is_remembered_until_it_is_done(tmp_path: Path) -> None:
    path = str(tmp_path / "state/apply.json")
    assert unfinished(path) == []
    remember([NodeResult("n1", "ok"), NodeResult("n2", "failed"), NodeResult("n3", "not tried")], path)
    assert unfinished(path) == ["n2", "n3"]
    # A run on other nodes, and one that mends one of them.
    remember([NodeResult("n4", "timed out")], path)
    remember([NodeResult("n2", "ok")], path)
    assert unfinished(path) == ["n3", "n4"]
    Path(path).write_text("{")
    assert unfinished(path) == []
    Path(path).chmod(0o666)
    assert unfinished(path) == []


@pytest.mark.parametrize(
    ("node", "by_srun", "by_ssh"),
    [
        pytest.param(SlurmNode("n1", "idle", "", "all"), "", "", id="idle"),
        pytest.param(SlurmNode("n1", "drained", "", "all"), "drained", "", id="drained"),
        pytest.param(SlurmNode("n1", "down", "", "all"), "down", "down", id="down"),
        pytest.param(SlurmNode("n1", "idle", "*", "all"), "idle, and does not answer", "down", id="no answer"),
        pytest.param(SlurmNode("n1", "idle"), "idle, and in no partition that is up", "", id="no partition"),
        pytest.param(SlurmNode("n1", "unknown to Slurm"), "unknown to Slurm, and in no partition that is up", ""),
    ],
)
def test_each_transport_says_which_nodes_it_cannot_reach(node: SlurmNode, by_srun: str, by_ssh: str) -> None:
    assert Srun(1, 1).why_not(node) == by_srun
    assert Ssh(1, 1).why_not(node) == by_ssh
