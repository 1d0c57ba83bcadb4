"""What many nodes' doctors said, put together."""

from __future__ import annotations

import json

from slurm_fsx_tools.provision.doctor.findings import NOTE, OK, PROBLEM, WARNING, Facts, Finding, Missing
from slurm_fsx_tools.provision.doctor.fixing import Fixed
from slurm_fsx_tools.provision.doctor.nodes import (
    FoldedFix,
    NodeReport,
    combine,
    combine_fixes,
    format_line,
    identity,
    reader,
)
from slurm_fsx_tools.provision.rollout import AT_BOOT, BUSY, FAILED, NOT_TRIED, Answer, NodeResult
from slurm_fsx_tools.provision.rollout import OK as REACHED

NOW_S = 1e9
SAME = {"slurm-fsx": "0.1.0", "Slurm": "22.05.8", "slurm.conf": "aaaa", "plugstack.conf": "bbbb"}


def bad(node: str, check: str = "exporters") -> Finding:
    return Finding(check, WARNING, f"node_exporter on {node}:9100 is silent.", "Why.", f"ssh {node} restart", "", False)


def report(node: str, *findings: Finding, behind_s: float = 0.1, **known: str) -> NodeReport:
    return NodeReport(node, list(findings), {**SAME, **known}, behind_s)


def texts(reports: list[NodeReport], results: list[NodeResult] | None = None) -> list[tuple[str, str, list[str]]]:
    folded = combine(reports, results or [])
    return [(each.finding.severity, each.finding.finding, each.nodes) for each in folded]


def test_nodes_that_are_alike_and_well_give_nothing() -> None:
    assert texts([report("n1"), report("n2")], [NodeResult("n1", REACHED), NodeResult("n2", REACHED)]) == []


def test_equal_findings_of_many_nodes_are_one_with_a_set_of_nodes() -> None:
    folded = combine([report(f"n{number}", bad(f"n{number}")) for number in range(1, 301)], [])
    assert len(folded) == 1
    assert folded[0].finding.finding == "node_exporter on n[1-300]:9100 is silent."
    assert folded[0].finding.command == "ssh n[1-300] restart"
    assert len(folded[0].nodes) == 300


def test_different_findings_stay_apart() -> None:
    assert [nodes for *_, nodes in texts([report("n1", bad("n1")), report("n2", bad("n2", "targets"))])] == [
        ["n1"],
        ["n2"],
    ]


def test_another_version_on_some_nodes_is_told_of_those() -> None:
    newer = {"slurm-fsx": "0.2.0"}
    found = texts([report("n1"), report("n2"), NodeReport("n3", [], {**SAME, **newer}, 0.0)])
    assert found == [(WARNING, "slurm-fsx is not the same everywhere: 0.1.0 on n[1-2], 0.2.0 on n3.", ["n3"])]


def test_builds_of_one_release_are_told_apart() -> None:
    known = [{**SAME, "slurm-fsx": f"0.1.0 (build {build})"} for build in ("3f9a2b7c1d2e", "90f1c3b2d4e5")]
    ((_, text, nodes),) = texts([NodeReport("n1", [], known[0], 0.0), NodeReport("n2", [], known[1], 0.0)])
    assert "0.1.0 (build 3f9a2b7c1d2e) on n1, 0.1.0 (build 90f1c3b2d4e5) on n2" in text
    assert nodes == ["n2"]


def test_another_slurm_conf_is_a_problem() -> None:
    found = texts([report("n1"), report("n2"), NodeReport("n3", [], {**SAME, "slurm.conf": "cccc"}, 0.0)])
    assert found == [(PROBLEM, "slurm.conf is not the same file everywhere: aaaa on n[1-2], cccc on n3.", ["n3"])]


def test_a_clock_that_is_off_is_told_with_its_direction() -> None:
    found = texts([report("n1", behind_s=61.0), report("n2", behind_s=-40.0), report("n3", behind_s=3.0)])
    assert [text for _, text, _ in found] == [
        "The clock of n1 is -61 s from this node's.",
        "The clock of n2 is +40 s from this node's.",
    ]


def test_nodes_that_were_not_reached_are_told_by_reason() -> None:
    results = [
        NodeResult("n1", NOT_TRIED, "down: not tried"),
        NodeResult("n2", NOT_TRIED, "down: not tried"),
        NodeResult("n3", AT_BOOT, "powered off"),
        NodeResult("n4", FAILED, "slurm-fsx cannot be run there"),
        NodeResult("n5", BUSY, "jobs fill it: run this again with --failed later, or with --by ssh"),
    ]
    assert texts([], results) == [
        (WARNING, "down: not tried.", ["n1", "n2"]),
        (NOTE, "powered off.", ["n3"]),
        (PROBLEM, "slurm-fsx cannot be run there.", ["n4"]),
        (WARNING, "jobs fill it.", ["n5"]),
    ]


def test_who_cannot_be_logged_in_to_is_not_to_be_asked_by_ssh_again() -> None:
    results = [
        NodeResult(node, FAILED, f"ended with 255: ssh: connect to host {node} port 22: Connection refused")
        for node in ("n1", "n2")
    ]
    (folded,) = combine([], results, by="ssh")
    assert folded.nodes == ["n1", "n2"]
    assert folded.finding.finding == "ended with 255: ssh: connect to host it port 22: Connection refused."
    assert folded.finding.command == ""
    (folded,) = combine([], results)
    assert folded.finding.command == "slurm-fsx doctor --node 'n[1-2]' --by ssh"


def test_a_nodes_line_is_read_amid_what_its_log_in_prints() -> None:
    fix = Fixed("chmod go-w /x", True, "")
    line = format_line("n1", [bad("n1"), Finding("fuse", OK, "fine")], SAME, NOW_S, [fix])
    assert "\n" not in line
    reports: list[NodeReport] = []
    result = reader(reports, lambda: NOW_S + 2)(Answer("n1", 0, f"Welcome!\n{line}\n{{bye\n"))
    assert result == NodeResult("n1", REACHED)
    assert reports == [NodeReport("n1", [bad("n1")], SAME, 2.0, (fix,))]


def test_what_nodes_ran_is_told_together() -> None:
    done, failed = Fixed("chmod go-w /x", True, ""), Fixed("chmod go-w /x", False, "read-only")
    reports = [report(node)._replace(fixes=(fix,)) for node, fix in (("n3", failed), ("n2", done), ("n1", done))]
    results = [NodeResult(node, REACHED) for node in ("n1", "n2", "n3")]
    assert combine_fixes(reports, results) == [FoldedFix(done, ["n1", "n2"]), FoldedFix(failed, ["n3"])]


def test_an_answer_that_is_none_is_a_failure() -> None:
    reports: list[NodeReport] = []
    read = reader(reports, lambda: NOW_S)
    forged = json.loads(format_line("n1", [bad("n1")], SAME, NOW_S))
    forged["findings"][0]["severity"] = "splendid"
    answers = ["", "Segmentation fault", '{"slurm-fsx-doctor": 1}', json.dumps(forged)]
    assert [read(Answer("n1", 1, output)).outcome for output in answers] == [FAILED] * 4
    assert read(Answer("n1", 127, "sh: not found")).message == "slurm-fsx cannot be run there"
    assert reports == []


def test_an_identity_has_what_was_seen() -> None:
    plugins = {
        "/x/spank_pyxis.so": {"pyxis": "0.24.0", "built": "22.05.8"},
        "/x/spank_slurm_fsx.so": {"built": "22.05.8"},
    }
    checksums = {"slurm.conf": "a", "plugstack.conf": "b", "the configuration": ""}
    facts = Facts(
        {
            "slurm-version": "22.05.8",
            "plugins": plugins,
            "enroot": Missing("it hangs", "enroot"),
            "checksums": checksums,
        }
    )
    assert identity("0.1.0", facts) == {
        "slurm-fsx": "0.1.0",
        "Slurm": "22.05.8",
        "Pyxis": "0.24.0",
        "the SPANK plugin's Slurm": "22.05.8",
        "slurm.conf": "a",
        "plugstack.conf": "b",
    }
