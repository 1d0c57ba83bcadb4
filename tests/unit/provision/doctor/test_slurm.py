"""Checks of Slurm's settings, on what ``scontrol show config`` prints; tests/cluster has the real one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slurm_fsx_tools.provision.doctor.basics import parse_settings, seconds, settings_of
from slurm_fsx_tools.provision.doctor.checks import PROBES, choose
from slurm_fsx_tools.provision.doctor.engine import diagnose, gather
from slurm_fsx_tools.provision.doctor.findings import COMPUTE, HEAD, NOTE, OK, PROBLEM, UNKNOWN, WARNING
from slurm_fsx_tools.provision.doctor.slurm import is_left_over
from slurm_fsx_tools.provision.slurm_conf import read_slurm_conf

from .conftest import Machine

GOOD = {
    "prologflags": "Alloc,DeferBatch",
    "prologepilogtimeout": "60 sec",
    "batchstarttimeout": "180 sec",
    "messagetimeout": "60 sec",
    "unkillablesteptimeout": "300 sec",
    "taskprolog": "(null)",
    "hash_val": "Match",
}
PYXIS = ["/etc/slurm/plugstack.conf", 1, ["required", "/x/spank_pyxis.so"]]
OURS = ["/etc/slurm/plugstack.conf", 2, ["optional", "/x/spank_slurm_fsx.so"]]


def settings(machine: Machine, reason: str = "", **changed: str) -> None:
    machine.facts["slurm"] = {
        "settings": {**GOOD, **changed},
        "conf": "/etc/slurm/slurm.conf",
        "reason": reason,
        "is_here": True,
    }


def stack(machine: Machine, *lines: list[Any]) -> None:
    machine.facts["plugstack"] = ["/etc/slurm/plugstack.conf", [], lines, []]


CHECKS = ("slurm-answers", "slurm-conf", "prolog-times", "prolog-flags", "task-prolog")


def test_settings_that_leave_room_are_well(machine: Machine) -> None:
    settings(machine)
    stack(machine, OURS, PYXIS)
    assert not machine.find(*CHECKS)


@pytest.mark.parametrize(
    ("key", "value", "severity", "said"),
    [
        pytest.param("prologepilogtimeout", "65534", NOTE, "PrologEpilogTimeout is not set", id="no-limit"),
        pytest.param("prologepilogtimeout", "8 sec", PROBLEM, "PrologEpilogTimeout is 8 s", id="too-short"),
        pytest.param("prologtimeout", "5 sec", PROBLEM, "PrologTimeout is 5 s", id="too-short-of-25.05"),
        pytest.param("batchstarttimeout", "9 sec", WARNING, "BatchStartTimeout is 9 s", id="batch"),
        pytest.param("messagetimeout", "5 sec", WARNING, "MessageTimeout is 5 s", id="message"),
        pytest.param("unkillablesteptimeout", "180 sec", NOTE, "less than 5 times", id="unkillable"),
        pytest.param("prologflags", "(null)", PROBLEM, "it is not set", id="no-flags"),
        pytest.param("prologflags", "DeferBatch", PROBLEM, "it is DeferBatch", id="no-alloc"),
        pytest.param("prologflags", "Alloc,Serial", WARNING, "Serial", id="serial"),
        pytest.param("taskprolog", "/etc/task", PROBLEM, "TaskProlog=/etc/task is set, and Pyxis", id="task-prolog"),
        pytest.param("hash_val", "Different Ours=0x1", PROBLEM, "not the one that slurmctld has read", id="hash"),
    ],
)
def test_each_setting_that_does_harm_is_told(machine: Machine, key: str, value: str, severity: str, said: str) -> None:
    settings(machine, **{key: value})
    stack(machine, OURS, PYXIS)
    (finding,) = machine.find(*CHECKS)
    assert finding.severity == severity
    assert said in finding.finding


def test_the_timeouts_of_25_05_stand_for_the_older_one(machine: Machine) -> None:
    settings(machine, prologepilogtimeout="65534", prologtimeout="60 sec", epilogtimeout="60 sec")
    assert not machine.find("prolog-times")


def test_a_longer_deadline_wants_longer_times(machine: Machine) -> None:
    settings(machine)
    machine.values["prolog.deadline"] = 120.0
    assert {finding.severity for finding in machine.find("prolog-times")} == {PROBLEM, WARNING}


def test_contain_brings_alloc_along(machine: Machine) -> None:
    settings(machine, prologflags="Contain")
    assert not machine.find("prolog-flags")


def test_without_pyxis_a_task_prolog_is_the_sites_own_choice(machine: Machine) -> None:
    settings(machine, taskprolog="/etc/task")
    stack(machine)
    assert not machine.find("task-prolog")
    settings(machine, taskprolog="/opt/slurm-fsx/share/slurm-fsx/task_prolog.d/slurm-fsx")
    stack(machine, OURS)
    (finding,) = machine.find("task-prolog")
    assert finding.severity == NOTE


@pytest.mark.parametrize("folder", ["/etc/slurm", "/opt/slurm/etc"])
def test_on_parallelcluster_settings_have_another_place(machine: Machine, folder: str) -> None:
    settings(machine, prologflags="Serial", prologepilogtimeout="65534")
    machine.facts["slurm"]["conf"] = f"{folder}/slurm.conf"
    found = machine.find("prolog-times", "prolog-flags")
    assert len(found) == 3
    for finding in found:
        assert ("CustomSlurmSettings" in finding.why) == (folder == "/opt/slurm/etc")


def test_no_answer_of_slurmctld_is_a_problem_and_the_file_is_read_instead(machine: Machine) -> None:
    settings(machine, reason="scontrol gave no answer within 3 s", prologflags="Serial")
    answers, flags, _ = machine.find("slurm-answers", "prolog-flags")
    assert (answers.severity, flags.severity) == (PROBLEM, PROBLEM)
    assert "scontrol gave no answer within 3 s" in answers.finding


def test_without_any_settings_nothing_is_judged(machine: Machine) -> None:
    machine.facts["slurm"] = {"settings": {}, "conf": "", "reason": "scontrol is not here", "is_here": False}
    found = machine.find("slurm-answers", "prolog-times")
    assert [finding.severity for finding in found] == [PROBLEM, UNKNOWN]


def scripts(machine: Machine, folder: Path) -> None:
    settings(machine, prolog=f"{folder}/prolog.d/*", epilog=f"{folder}/epilog.d/*")
    for act in ("prolog", "epilog"):
        (folder / f"{act}.d").mkdir()
        ours = folder / f"{act}.d/50-slurm-fsx"
        ours.write_text(f"#!/bin/sh\npython3 -c 'from slurm_fsx_tools.node.{act} import main; main()'\n")
        ours.chmod(0o755)


def test_our_scripts_are_found_where_slurm_looks(machine: Machine, tmp_path: Path) -> None:
    scripts(machine, tmp_path)
    assert not machine.find("prolog-scripts")


def test_a_missing_script_is_told_by_its_setting(machine: Machine, tmp_path: Path) -> None:
    scripts(machine, tmp_path)
    (tmp_path / "prolog.d/50-slurm-fsx").unlink()
    (finding,) = machine.find("prolog-scripts")
    assert finding.finding == f"Slurm's Prolog does not run our script: {tmp_path}/prolog.d/* does not have it."
    assert "head node" not in finding.why


def test_a_script_that_is_missing_in_a_shared_folder_is_put_there_by_the_head_node(
    machine: Machine, tmp_path: Path
) -> None:
    scripts(machine, tmp_path)
    (tmp_path / "prolog.d/50-slurm-fsx").unlink()
    machine.facts["mounts"] = [[str(tmp_path), "nfs4", "head:/opt/slurm", ""]]
    for roles, is_elsewhere in (([COMPUTE], True), ([HEAD, COMPUTE], False)):
        machine.facts["roles"] = roles
        (finding,) = machine.find("prolog-scripts")
        assert finding.why.endswith(" It is the head node's file: run the command there.") == is_elsewhere


def test_a_script_that_cannot_be_run_would_drain_the_node(machine: Machine, tmp_path: Path) -> None:
    scripts(machine, tmp_path)
    script = tmp_path / "epilog.d/50-slurm-fsx"
    script.chmod(0o644)
    (finding,) = machine.find("prolog-scripts")
    assert (finding.severity, finding.command, finding.is_safe) == (PROBLEM, f"chmod 755 {script}", True)


def test_what_an_editor_left_there_is_told(machine: Machine, tmp_path: Path) -> None:
    scripts(machine, tmp_path)
    left = tmp_path / "prolog.d/sedX1y2Z3"
    left.write_text("#!/bin/sh\n")
    (finding,) = machine.find("prolog-scripts")
    assert (finding.severity, finding.command) == (WARNING, f"rm {left}")


@pytest.mark.parametrize("name", ["sedX1y2Z3", "a~", ".a.swp", "a.bak", "a.rpmnew", "a.dpkg-old", "#a#"])
def test_left_overs_are_known_by_their_names(name: str) -> None:
    assert is_left_over(name)


@pytest.mark.parametrize("name", ["50-slurm-fsx", "90_pcluster_health_check_manager", "sedation", "a.sh", "pyxis.conf"])
def test_scripts_are_not_taken_for_left_overs(name: str) -> None:
    assert not is_left_over(name)


def test_drained_nodes_are_told_by_reason(machine: Machine) -> None:
    machine.facts["slurm-nodes"] = [
        ["n1", "drained*", "Prolog error"],
        ["n2", "drained", "Prolog error"],
        ["n3", "drained", "bad fan, ticket 7"],
        ["n4", "draining", "Kill task failed"],
    ]
    assert machine.texts("slurm-nodes") == [
        "n[1-2] are drained: Prolog error.",
        "n4 is draining: Kill task failed.",
    ]


def test_settings_are_read_as_scontrol_prints_them() -> None:
    text = "Configuration data as of 2026\nProlog[0]   = /a/*\nProlog[1] = /b\nMessageTimeout = 10 sec\nX = a=b\n"
    assert parse_settings(text) == {"prolog": "/a/*,/b", "messagetimeout": "10 sec", "x": "a=b"}
    assert seconds(parse_settings(text), "messagetimeout") == 10
    assert seconds({"prologtimeout": "65534 sec"}, "prologtimeout") is None
    assert seconds({}, "prologtimeout") is None


def test_settings_are_read_from_a_slurm_conf_and_its_includes(tmp_path: Path) -> None:
    conf = tmp_path / "slurm.conf"
    conf.write_text(
        "# PrologFlags=None\nprologFLAGS=Alloc # yes\nNodeName=n1 CPUs=2\ninclude more\nProlog=\\\n/etc/x\n"
    )
    (tmp_path / "more").write_text('TaskProlog="/a"\nProlog=/etc/y/*\n')
    found = settings_of(read_slurm_conf(str(conf)))
    assert {key: found[key] for key in ("prologflags", "taskprolog")} == {"prologflags": "Alloc", "taskprolog": "/a"}
    assert set(found["prolog"].split(",")) == {"/etc/x", "/etc/y/*"}


def machine_kind(machine: Machine, daemons: list[str], host: str) -> list[str]:
    """Say what is found of a machine with these daemons, where slurm.conf names slurmctld's host."""
    del machine.facts["roles"]
    settings(machine, reason="no answer", slurmctldhost="head.cluster(10.0.0.1),other")
    machine.facts["daemons"] = daemons
    probes = {name: machine.known(probe) for name, probe in PROBES.items()}
    found, facts = diagnose(choose(["slurm-daemons"]), probes, machine.context._replace(host=host))
    return [*facts["roles"], *(finding.finding for finding in found if finding.severity != OK)]


@pytest.mark.parametrize(
    ("daemons", "host", "expected"),
    [
        pytest.param(["slurmctld"], "head", ["head"], id="head"),
        pytest.param(["slurmd"], "n1", ["compute"], id="compute"),
        pytest.param(["slurmctld", "slurmd"], "head", ["head", "compute"], id="both"),
        pytest.param([], "other", ["head", "slurmctld should run here, and does not."], id="ended"),
        pytest.param([], "login", [], id="login"),
    ],
)
def test_slurm_says_which_daemons_should_run(
    machine: Machine, daemons: list[str], host: str, expected: list[str]
) -> None:
    assert machine_kind(machine, daemons, host) == expected


def test_a_node_without_a_prolog_gets_the_command_that_writes_slurm_conf(machine: Machine) -> None:
    settings(machine, prolog="(null)", epilog="")
    machine.facts["scripts"] = {}
    found = machine.find("prolog-scripts")
    assert [finding.finding.split(",")[0] for finding in found] == ["Prolog is not set", "Epilog is not set"]
    assert {each.command for each in found} == {"slurm-fsx setup hooks --edit-slurm-conf && scontrol reconfigure"}


def test_a_daemon_is_known_by_its_command_line(machine: Machine, tmp_path: Path) -> None:
    # As Debian's 24.11 has it after a reconfiguration; a step's daemon is none.
    commands = b"slurmd\0-D\0", b"slurmstepd: [5.0]\0", b"/opt/slurm/sbin/slurmctld\0-D\0"
    for number, command in enumerate(commands):
        (tmp_path / "proc" / str(number)).mkdir(parents=True)
        (tmp_path / "proc" / str(number) / "comm").write_text("slurmd-wlm")
        (tmp_path / "proc" / str(number) / "cmdline").write_bytes(command)
    facts = gather([PROBES["daemons"]], machine.context._replace(proc=str(tmp_path / "proc")))
    assert facts["daemons"] == ["slurmctld", "slurmd"]
