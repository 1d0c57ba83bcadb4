from __future__ import annotations

import shlex

from slurm_fsx_tools.provision.doctor.findings import NOTE, OK, PROBLEM, UNKNOWN, WARNING, Finding, Trouble, worst


def test_a_command_takes_each_value_as_one_word_whatever_it_is() -> None:
    trouble = Trouble(PROBLEM, "{path} is open.", "Why.", "chmod go-w {path}")
    path = "/fsx/a b; rm -rf $(x) '\"`"
    finding = trouble.found(path=path)
    assert shlex.split(finding.command) == ["chmod", "go-w", path]
    assert finding.finding == f"{path} is open."


def test_a_list_becomes_several_words() -> None:
    finding = Trouble(NOTE, "{files}", "", "rm {files}").found(files=["a b", "c"])
    assert (finding.finding, finding.command) == ("a b, c", "rm 'a b' c")


def test_what_a_user_wrote_cannot_steer_the_terminal() -> None:
    finding = Trouble(NOTE, "{name}", "{name}", "rm {name}").found(name="x\x1b[2J\n{y}")
    assert all(text.isprintable() for text in (finding.finding, finding.why, finding.command))


def test_the_worst_severity_is_the_verdict() -> None:
    order = [OK, NOTE, UNKNOWN, WARNING, PROBLEM]
    findings = [Finding("c", severity, "") for severity in order]
    assert [worst(findings[: n + 1]) for n in range(len(order))] == order
    assert worst([]) == OK
