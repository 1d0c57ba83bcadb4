"""What people and programs get to see, what --fix runs, and the page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
import pytest

from slurm_fsx_tools.cli.main import cli
from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.provision.doctor import live, nodes
from slurm_fsx_tools.provision.doctor.checks import CHECKS, PROBES, SYMPTOMS, choose
from slurm_fsx_tools.provision.doctor.findings import (
    NOTE,
    OK,
    PROBLEM,
    SEVERITIES,
    UNKNOWN,
    WARNING,
    Context,
    Facts,
    Finding,
    Missing,
)
from slurm_fsx_tools.provision.doctor.fixing import Fixed, fix, judge
from slurm_fsx_tools.provision.doctor.nodes import Folded, FoldedFix
from slurm_fsx_tools.provision.doctor.page import format_page
from slurm_fsx_tools.provision.doctor.report import as_document, format_fixes, format_text

PAGE = Path(__file__).parents[4] / "docs/doctor.md"
EXTRAS = (live.EXTRA, *nodes.EXTRAS)

WELL = Finding("fuse", OK, "fine")
OPEN = Finding("fsx-folders", PROBLEM, "/fsx/nccl is open.", "Anybody can write there. " * 5, "chmod go-w /fsx/nccl")
SLOW = Finding("fsx-answers", WARNING, "/fsx is slow.", "It is.")
UNSEEN = Finding("images", UNKNOWN, "Not checked: /fsx hangs.")


def text(*findings: Finding, width: int = 80, many: bool = False, colour: bool = False) -> str:
    found = [Folded(finding, ["n1", "n2"]) for finding in findings]

    def paint(word: str, name: str) -> str:
        return f"<{name}>{word}</>" if colour else word

    return format_text(found, checks=40, elapsed_s=1.24, width=width, many=many, paint=paint)


def test_a_healthy_cluster_is_one_line() -> None:
    assert text(WELL, WELL) == "all is well (40 checks in 1.2 s)"


def test_findings_come_worst_first_with_their_command_in_one_piece() -> None:
    assert text(WELL, SLOW, OPEN, width=60).splitlines() == [
        "problem  /fsx/nccl is open. [fsx-folders]",
        "         Anybody can write there. Anybody can write there.",
        "         Anybody can write there. Anybody can write there.",
        "         Anybody can write there.",
        "         Run: chmod go-w /fsx/nccl",
        "",
        "warning  /fsx is slow. [fsx-answers]",
        "         It is.",
        "",
        "1 problem, 1 warning (40 checks in 1.2 s)",
    ]


def test_what_was_not_checked_is_folded_by_reason() -> None:
    said = text(UNSEEN, UNSEEN._replace(check="nccl-files"), UNSEEN._replace(finding="Not checked: other.", check="x"))
    assert said.splitlines() == [
        "unknown  /fsx hangs. [images, nccl-files]",
        "unknown  other. [x]",
        "",
        "3 not checked (40 checks in 1.2 s)",
    ]


def test_with_many_nodes_each_line_names_them() -> None:
    lines = text(OPEN, UNSEEN, many=True).splitlines()
    assert lines[0] == "problem  n[1-2]: /fsx/nccl is open. [fsx-folders]"
    assert "         Run on n[1-2]: chmod go-w /fsx/nccl" in lines
    assert "unknown  n[1-2]: /fsx hangs. [images]" in lines


@pytest.mark.parametrize("width", [80, 120])
def test_colour_changes_no_word_and_prose_keeps_to_the_width(width: int) -> None:
    plain, coloured = text(OPEN, SLOW, width=width), text(OPEN, SLOW, width=width, colour=True)
    assert re.sub(r"<[^>]*>", "", coloured) == plain
    assert all(len(line) <= width for line in plain.splitlines())


def test_the_document_has_every_finding_and_the_verdict() -> None:
    found = [Folded(WELL, ["n1"]), Folded(SLOW, ["n1"])]
    document = as_document(found, [FoldedFix(Fixed("chmod", True, ""), ["n1"])], {"node": "n1"})
    assert json.loads(json.dumps(document)) == {
        "format": 1,
        "node": "n1",
        "verdict": "warning",
        "findings": [{**WELL._asdict(), "nodes": ["n1"]}, {**SLOW._asdict(), "nodes": ["n1"]}],
        "fixes": [{"command": "chmod", "is_done": True, "said": "", "nodes": ["n1"]}],
    }


def test_what_is_of_the_cluster_is_mended_once() -> None:
    finding = Finding("images", WARNING, "It is damaged.", "Jobs fail.", "rm it")
    text = format_text(
        [Folded(finding, ["n1", "n2"]), Folded(finding._replace(check="fuse"), ["n1", "n2"])],
        checks=2,
        elapsed_s=0.1,
        width=80,
        many=True,
        paint=lambda word, _: word,
        once=["images"],
    )
    assert [line.strip() for line in text.splitlines() if "Run" in line] == ["Run once: rm it", "Run on n[1-2]: rm it"]


def test_what_differs_between_nodes_is_looked_at_from_here() -> None:
    finding = Finding("nodes-reached", WARNING, "down.", "Nothing is known.", "slurm-fsx doctor --node n1 --by ssh")
    text = format_text(
        [Folded(finding, ["n1"])],
        checks=2,
        elapsed_s=0.1,
        width=80,
        many=True,
        paint=lambda word, _: word,
        here=["nodes-reached"],
    )
    assert "Run: slurm-fsx doctor --node n1 --by ssh" in text


def test_what_was_asked_for_is_told_where_it_is_well_too() -> None:
    job = Finding("job-environment", OK, "A job ran on n1.")
    text = format_text(
        [Folded(WELL, ["head"]), Folded(job, ["head"])],
        checks=1,
        elapsed_s=0.1,
        width=80,
        many=False,
        paint=lambda word, _: word,
        always=["job-environment"],
    )
    assert text.splitlines() == [
        "ok       A job ran on n1. [job-environment]",
        "",
        "all is well (1 check in 0.1 s)",
    ]


def test_only_safe_commands_are_run_each_once_without_a_shell(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/slurm-fsx"
    program.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/ran\n')
    program.chmod(0o755)
    safe = Finding("c", WARNING, "", command="slurm-fsx containers index '$(touch x); y'", is_safe=True)
    unsafe = Finding("c", WARNING, "", command=f"touch {tmp_path}/unsafe")
    assert fix([safe, safe, unsafe, WELL], str(tmp_path)) == [Fixed(safe.command, True, "")]
    assert (tmp_path / "ran").read_text() == "containers index $(touch x); y\n"
    assert not (tmp_path / "unsafe").exists()


def test_a_fix_that_fails_or_hangs_says_so(tmp_path: Path) -> None:
    def finding(command: str) -> Finding:
        return Finding("c", WARNING, "", command=command, is_safe=True)

    done = fix([finding("ls /no/such/file"), finding("sleep 600"), finding("/no/program")], str(tmp_path), limit_s=1.0)
    assert [each.is_done for each in done] == [False] * 3
    assert "No such file" in done[0].said
    assert done[1].said == "it had not ended after 1 s"
    folded = [FoldedFix(done[0], ["n1", "n2"])]
    assert format_fixes(folded, lambda word, _: word, False)[0].startswith("failed   ls /no/such/file  (")
    assert format_fixes(folded, lambda word, _: word, True)[0].startswith("failed   n[1-2]: ls /no/such/file  (")


def test_a_fix_is_done_when_what_it_is_for_is_gone() -> None:
    told = Finding("c", WARNING, "", command="true", is_safe=True)
    assert judge([Fixed("true", False, "other trouble")], [WELL]) == [Fixed("true", True, "")]
    assert judge([Fixed("true", False, "trouble")], [told]) == [Fixed("true", False, "trouble")]
    (left,) = judge([Fixed("true", True, "")], [told])
    assert (left.is_done, left.said) == (False, "it ran, and what it should mend is as before")


@pytest.mark.parametrize(
    ("environment", "severity"),
    [
        pytest.param({"LD_LIBRARY_PATH": "/opt/x:/fsx/nccl/lib/"}, OK, id="there"),
        pytest.param({"LD_LIBRARY_PATH": "/opt/x"}, PROBLEM, id="another"),
        pytest.param({}, PROBLEM, id="none"),
    ],
)
def test_a_jobs_environment_must_lead_to_the_shared_nccl(environment: dict[str, str], severity: str) -> None:
    facts = Facts({"nccl": {"is_there": True, "library_folders": ["/fsx/nccl/lib"]}})
    (finding,) = live.judge(Context(Config()), facts, {"SLURMD_NODENAME": "n1", **environment})
    assert finding.severity == severity
    if severity == OK:
        assert finding.finding == "A job ran on n1, and its LD_LIBRARY_PATH leads to /fsx/nccl/lib."


def test_a_job_without_an_installation_ran_at_least() -> None:
    assert [each.severity for each in live.judge(Context(Config()), Facts({"nccl": {"is_there": False}}), {})] == [NOTE]
    away = Facts({"nccl": Missing("/fsx hangs")})
    assert [each.severity for each in live.judge(Context(Config()), away, {})] == [UNKNOWN]


def test_the_page_is_what_the_checks_say() -> None:
    assert PAGE.read_text() == format_page(), "run: slurm-fsx doctor --page >docs/doctor.md"


def test_checks_have_names_of_their_own_and_probes_that_exist() -> None:
    names = [each.name for each in (*CHECKS, *EXTRAS)]
    assert len(set(names)) == len(names)
    assert {name for check in CHECKS for name in check.probes} <= set(PROBES)
    assert {name for probe in PROBES.values() for name in probe.after} <= set(PROBES)
    assert [check.name for check in choose([])] == [check.name for check in CHECKS]


def test_each_symptom_leads_to_checks_that_exist() -> None:
    names = {check.name for check in CHECKS}
    assert all(set(symptom.checks) <= names for symptom in SYMPTOMS)


@pytest.mark.parametrize("check", [*CHECKS, *EXTRAS], ids=lambda check: check.name)
def test_each_trouble_says_why_it_counts(check: object) -> None:
    for trouble in check.troubles:  # type: ignore[attr-defined]
        assert trouble.severity in SEVERITIES[1:]
        assert trouble.text.endswith((".", "}"))
        assert trouble.why
        # What is run without asking is one program, and no shell's line.
        assert not trouble.is_safe or not set("|;&<>$`") & set(trouble.command)


def own_commands() -> list[list[str]]:
    troubles = [trouble for each in (*CHECKS, *EXTRAS) for trouble in each.troubles]
    found = {trouble.command for trouble in troubles if trouble.command.startswith("slurm-fsx ")}
    lines = [line.replace("{kind}", "node").split() for whole in found for line in whole.split("&&")]
    return sorted(line for line in lines if line[0] == "slurm-fsx")


@pytest.mark.parametrize("words", own_commands(), ids=" ".join)
def test_each_command_of_ours_exists_with_its_options(words: list[str]) -> None:
    command: click.Command = cli
    rest = words[1:]
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), rest[0])
        assert found is not None, f"there is no slurm-fsx {' '.join(words[1:])}"
        command, rest = found, rest[1:]
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in rest if word.startswith("--")} <= options
