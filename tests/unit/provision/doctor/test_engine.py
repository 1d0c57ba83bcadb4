"""The engine: whatever a probe does, the doctor ends, and says so."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.errors import SlurmUnavailable
from slurm_fsx_tools.provision.doctor.engine import diagnose, gather
from slurm_fsx_tools.provision.doctor.findings import (
    COMPUTE,
    OK,
    PROBLEM,
    UNKNOWN,
    WARNING,
    Check,
    Context,
    Facts,
    Finding,
    Probe,
    Trouble,
)

CONTEXT = Context(Config({"fsx.root": "/shared"}))
BAD = Trouble(PROBLEM, "{value} is bad.", "It is.")


def probe(name: str, function: Any, limit_s: float = 5.0, after: tuple[str, ...] = ()) -> Probe:
    return Probe(name, f"{{root}}/{name}", lambda context, facts: function(facts), limit_s, after)


def check(*names: str, role: str = "") -> Check:
    def judge(context: Context, facts: Facts) -> list[Finding]:
        return [BAD.found(value=facts[name]) for name in names if facts[name]]

    return Check("-".join(names), "all is good", names, judge, (BAD,), role)


def run(checks: list[Check], *probes: Probe, limit_s: float = 8.0) -> list[tuple[str, str, str]]:
    found, _ = diagnose(checks, {each.name: each for each in probes}, CONTEXT, limit_s=limit_s)
    return [(finding.check, finding.severity, finding.finding) for finding in found]


def sleep(_: Facts) -> None:
    time.sleep(600)


def test_a_check_gives_its_troubles_or_says_that_all_is_well() -> None:
    probes = probe("a", lambda _: "salt"), probe("b", lambda _: "")
    assert run([check("a"), check("b")], *probes) == [
        ("a", PROBLEM, "salt is bad."),
        ("b", OK, "all is good: yes."),
    ]


def test_what_hangs_is_a_finding_once_and_the_reason_for_other_checks() -> None:
    found = run([check("a"), check("a", "b")], probe("a", sleep, 0.2), probe("b", lambda _: ""))
    assert found == [
        ("a", WARNING, "/shared/a gave no answer within 0.2 s."),
        ("a-b", UNKNOWN, "Not checked: /shared/a gave no answer within 0.2 s."),
    ]


def test_a_check_that_needs_what_comes_after_a_hung_probe_says_what_hangs() -> None:
    probes = probe("a", sleep, 0.2), probe("b", lambda _: "", after=("a",)), probe("c", lambda _: "", after=("b",))
    found = run([check("b"), check("c")], *probes)
    assert found == [
        ("b", WARNING, "/shared/a gave no answer within 0.2 s."),
        ("c", UNKNOWN, "Not checked: /shared/a gave no answer within 0.2 s."),
    ]


def test_many_that_hang_end_with_the_common_limit() -> None:
    probes = [probe(f"p{number}", sleep, 600) for number in range(40)]
    begun_s = time.monotonic()
    facts = gather(probes, CONTEXT, limit_s=0.3)
    assert time.monotonic() - begun_s < 600
    assert all((why := facts.missing(each.name)) and why.hung for each in probes)


def test_programs_that_a_hung_probe_started_end_with_it(tmp_path: Path) -> None:
    def start(_: Facts) -> None:
        child = subprocess.Popen(["sleep", "600"])
        (tmp_path / "pid").write_text(str(child.pid))
        child.wait()

    gather([probe("a", start, 1.0)], CONTEXT)
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 30
    while is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_probe_has_the_facts_that_it_comes_after() -> None:
    probes = probe("a", lambda _: 2), probe("b", lambda facts: facts["a"] * 3, after=("a",))
    assert run([check("b")], *probes) == [("b", PROBLEM, "6 is bad.")]


def test_a_probe_is_not_started_without_what_it_comes_after() -> None:
    def fail(_: Facts) -> None:
        raise SlurmUnavailable("slurmctld is away")

    found = run([check("b")], probe("a", fail), probe("b", lambda _: 1, after=("a",)))
    assert found == [("b", UNKNOWN, "Not checked: slurmctld is away.")]


def test_a_probe_that_crashes_is_named_and_the_others_answer() -> None:
    probes = probe("a", lambda _: 1 // 0), probe("b", lambda _: os._exit(3)), probe("c", lambda _: "c")
    found = run([check("a"), check("b"), check("c")], *probes)
    assert [severity for _, severity, _ in found] == [UNKNOWN, UNKNOWN, PROBLEM]
    assert "ZeroDivisionError" in found[0][2]


def test_a_judge_that_is_wrong_is_named_and_the_others_answer() -> None:
    broken = check("a")._replace(name="broken", judge=lambda context, facts: facts["a"]["no such key"])
    found = run([broken, check("a")], probe("a", lambda _: {"x": 1}))
    assert found[0][:2] == ("broken", UNKNOWN)
    assert "KeyError" in found[0][2]
    assert found[1][:2] == ("a", PROBLEM)


def test_a_check_of_compute_nodes_says_nothing_elsewhere() -> None:
    roles = probe("roles", lambda _: ["head"])
    found = run([check("a", role=COMPUTE)], probe("a", lambda _: "salt"), roles)
    assert found == [("a", OK, "This is no compute node.")]


def test_the_facts_that_are_asked_for_besides_are_gathered() -> None:
    _, facts = diagnose([], {"a": probe("a", lambda _: 1)}, CONTEXT, more=["a"])
    assert facts["a"] == 1
