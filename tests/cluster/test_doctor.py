"""The doctor on real Slurm: a cluster in order, and one in which each time another thing is wrong."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.nccl_version import install_version

from .conftest import COMMAND, Site, make_site, plugstack

POOR = {
    "clock",
    "enroot-paths",
    "exporters",
    "prometheus",
    "prolog-trend",
    "targets-synced",
    "fsx-mounted",
    "local-room",
}
"""What may be wrong with a lab: no Prometheus runs, its disks are small, its clock and /fsx are the host's."""


STACK = ("plugstack", "container-scope")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, installation: Path, checkout: Path) -> Iterator[Site]:
    """A cluster in order: our plugin around a stand-in for Pyxis, and all that set-up puts in place."""
    for site in make_site("standin", tmp_path_factory.mktemp("doctor"), installation, checkout):
        install_version(site.cluster.fsx)
        set_slurm(site, "PrologEpilogTimeout=60")
        for node in site.cluster.nodes:
            done = site.cluster.run_on(node, [COMMAND, "nccl", "apply-here"])
            assert done.returncode == 0, done.stdout
            site.cluster.run_on(node, [COMMAND, "monitoring", "register"])
        yield site


@pytest.fixture
def site(shared: Site) -> Iterator[Site]:
    """That cluster; afterwards its configuration is what it was."""
    conf = shared.cluster.slurm_etc / "slurm.conf"
    before = conf.read_text()
    yield shared
    shared.cluster.set_plugstack(plugstack("standin"))
    if conf.read_text() != before:
        conf.write_text(before)
        shared.cluster.reconfigure()
    shared.cluster.resume(*shared.cluster.nodes)


def set_slurm(site: Site, line: str) -> None:
    with (site.cluster.slurm_etc / "slurm.conf").open("a") as conf:
        conf.write(f"{line}\n")
    site.cluster.reconfigure()


def doctor(site: Site, node: str, *arguments: str, user: str = "root") -> dict[str, Any]:
    """Run the doctor on a node; give its document, with its exit code."""
    done = site.cluster.run_on(node, [COMMAND, "doctor", "--json", *arguments], user)
    assert done.stdout, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    document["code"] = done.returncode
    return document


def wrong(document: dict[str, Any]) -> dict[str, list[str]]:
    """Give what is wrong, by check."""
    found: dict[str, list[str]] = {}
    for finding in document["findings"]:
        if finding["severity"] != "ok":
            found.setdefault(finding["check"], []).append(finding["finding"])
    return found


@pytest.mark.parametrize("node", ["head", "n1"])
def test_a_cluster_in_order_is_well(site: Site, node: str) -> None:
    document = doctor(site, node)
    assert set(wrong(document)) <= POOR
    assert document["node"] == node
    assert document["user"] == "root"


def test_a_node_in_order_says_so_in_one_line(site: Site) -> None:
    checks = ["fsx-answers", "plugstack", "plugin-build", "container-scope", "images", "nccl-installed", "nccl-reach"]
    done = site.cluster.run_on("n1", [COMMAND, "doctor", *checks])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("all is well (7 checks in ")
    assert done.stdout.count("\n") == 1


def test_a_user_is_told_what_could_not_be_seen(site: Site) -> None:
    document = doctor(site, "n1", user="ada")
    assert set(wrong(document)) <= POOR | {"left-overs", "overlay"}
    assert document["user"] == "ada"


def test_a_hung_fsx_is_a_problem_and_the_rest_is_checked(site: Site) -> None:
    site.cluster.nodes["n1"].hang_fsx()
    try:
        document = doctor(site, "n1")
    finally:
        site.cluster.nodes["n1"].heal_fsx()
    found = wrong(document)
    assert document["code"] == 2
    assert found["fsx-answers"] == ["/fsx did not answer within 2 s."]
    hung = [
        each["check"] for each in document["findings"] if "answer" in each["finding"] and each["severity"] != "unknown"
    ]
    assert set(hung) - {"slurm-answers"} == {"fsx-answers"}
    assert found["images"] == ["Not checked: /fsx gave no answer within 2 s."]
    fine = {finding["check"] for finding in document["findings"] if finding["severity"] == "ok"}
    assert {"plugstack", "plugin-build", "prolog-scripts", "overlay", "slurm-answers"} <= fine


def test_a_hung_slurmctld_is_a_problem_and_the_rest_is_checked(site: Site) -> None:
    site.cluster.slurmctld.pause()
    try:
        document = doctor(site, "n1")
    finally:
        site.cluster.slurmctld.go_on()
    found = wrong(document)
    assert document["code"] == 2
    assert "scontrol gave no answer within 3 s" in found["slurm-answers"][0]
    # By the file, as far as it goes.
    assert "prolog-flags" not in found
    assert "plugstack" not in found


def test_lines_of_plugstack_in_the_wrong_order_are_a_problem(site: Site) -> None:
    before, pyxis, after = plugstack("standin")
    site.cluster.set_plugstack([pyxis, before, after])
    assert "no line of our plugin before Pyxis's" in wrong(doctor(site, "n1", "plugstack"))["plugstack"][0]
    site.cluster.set_plugstack([before, pyxis.replace("container_scope=job", "container_scope=global"), after])
    assert set(wrong(doctor(site, "n1", "plugstack", "container-scope"))) == {"container-scope"}


def test_wrong_lines_of_plugstack_are_mended_by_the_command_that_is_printed(site: Site) -> None:
    before, pyxis, after = plugstack("standin")
    required = [before.replace("optional", "required"), pyxis, after]
    other_scope = [before, pyxis.replace("container_scope=job", "container_scope=global"), after]
    try:
        for lines in (required, other_scope, [pyxis]):
            site.cluster.set_plugstack(lines)
            found = [each for each in doctor(site, "n1", *STACK)["findings"] if each["severity"] == "problem"]
            assert {each["command"] for each in found} == {"slurm-fsx setup node"}
            done = site.cluster.run_on("n1", [COMMAND, *found[0]["command"].split()[1:]])
            assert done.returncode == 0, done.stderr
            assert wrong(doctor(site, "n1", *STACK)) == {}
            site.cluster.run_on("n1", [COMMAND, "setup", "uninstall"])
    finally:
        site.cluster.run_on("n1", [COMMAND, "setup", "uninstall"])
        assert site.cluster.run_on("n1", [COMMAND, "nccl", "apply-here"]).returncode == 0


def test_a_task_prolog_with_pyxis_is_a_problem(site: Site) -> None:
    set_slurm(site, "TaskProlog=/etc/slurm/task_prolog")
    assert set(wrong(doctor(site, "n1", "task-prolog"))) == {"task-prolog"}


def test_a_slurm_conf_that_slurmctld_has_not_read_is_a_problem(site: Site) -> None:
    with (site.cluster.slurm_etc / "slurm.conf").open("a") as conf:
        conf.write("KillWait=3\n")
    site.cluster.wait_until(lambda: "slurm-conf" in wrong(doctor(site, "n1", "slurm-conf")), "the difference seen")


def test_a_node_that_a_prolog_has_drained_is_told_on_the_head_node(site: Site) -> None:
    script = site.cluster.slurm_etc / "prolog.d/99-broken"
    script.write_text("#!/bin/sh\nexit 1\n")
    script.chmod(0o755)
    try:
        job = site.cluster.sbatch("#!/bin/sh\ntrue\n", "--nodelist=n2")
        site.cluster.wait_until(lambda: site.cluster.node_states()["n2"].startswith("drain"), "n2 drained")
    finally:
        script.unlink()
    site.cluster.cancel(job)
    (text,) = wrong(doctor(site, "head", "slurm-nodes"))["slurm-nodes"]
    assert text.startswith("n2 is drain")
    assert "rolog" in text
    assert wrong(doctor(site, "n1", "slurm-nodes")) == {}


def test_files_of_ended_jobs_are_fixed_and_those_of_running_ones_stay(site: Site) -> None:
    job = site.cluster.sbatch("#!/bin/sh\nsleep 600\n", "--nodelist=n1")
    jobs = site.cluster.nodes["n1"].path("/run/slurm-fsx/jobs")
    site.cluster.wait_until(lambda: (jobs / f"{job.id}.env").exists(), "the job's prolog done")
    (jobs / "999999.env").write_text("# slurm-fsx env 1\n")
    for name in ("999999.env", f"{job.id}.env"):
        os.utime(jobs / name, (time.time() - 7200,) * 2)
    assert "(1): 999999." in wrong(doctor(site, "n1", "job-files"))["job-files"][0]
    document = doctor(site, "n1", "--fix", "job-files")
    assert (document["code"], wrong(document)) == (0, {})
    assert [fix["is_done"] for fix in document["fixes"]] == [True]
    assert not (jobs / "999999.env").exists()
    assert (jobs / f"{job.id}.env").exists()
    site.cluster.cancel(job)


def test_an_open_folder_is_fixed_by_the_command_that_is_printed(site: Site) -> None:
    folder = site.cluster.fsx / "containers"
    folder.chmod(0o777)
    (finding,) = [each for each in doctor(site, "n1", "fsx-folders")["findings"] if each["severity"] == "problem"]
    document = doctor(site, "n1", "--fix", "fsx-folders")
    assert [fix["command"] for fix in document["fixes"]] == [finding["command"]] == ["chmod go-w /fsx/containers"]
    assert wrong(document) == {}
    assert folder.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("user", ["root", "ada"])
def test_an_image_that_users_cannot_read_is_to_be_opened_and_not_removed(site: Site, user: str) -> None:
    image = site.cluster.fsx / "containers/nvcr.io_nvidia_nemo-24.01.sqsh"
    image.chmod(0o600)
    try:
        (finding,) = [each for each in doctor(site, "n1", "images", user=user)["findings"] if each["check"] == "images"]
        assert finding["command"] == "chmod a+r /fsx/containers/nvcr.io_nvidia_nemo-24.01.sqsh"
        done = site.cluster.run_on("n1", ["sh", "-c", finding["command"]])
        assert done.returncode == 0
        assert wrong(doctor(site, "n1", "images", user=user)) == {}
    finally:
        image.chmod(0o644)


def test_a_session_without_nccl_is_fixed(site: Site) -> None:
    profile = site.cluster.nodes["n2"].path("/etc/profile.d/nccl-shared.sh")
    profile.unlink()
    assert "Sessions by SSH do not get" in wrong(doctor(site, "n2", "nccl-reach"))["nccl-reach"][0]
    assert wrong(doctor(site, "n2", "--fix", "nccl-reach")) == {}
    assert profile.exists()


def test_many_nodes_are_told_together_and_compared(site: Site) -> None:
    document = doctor(site, "head", "--node", "n[1-2]")
    assert set(wrong(document)) <= POOR
    assert {tuple(finding["nodes"]) for finding in document["findings"] if finding["check"] == "fsx-mounted"} == {
        ("n1", "n2")
    }
    site.cluster.nodes["n2"].write("/etc/slurm-fsx/config.yaml", "fsx: {timeout: 3}\n")
    site.cluster.nodes["n2"].path("/etc/profile.d/nccl-shared.sh").unlink()
    document = doctor(site, "head", "--node", "n[1-2]", "nccl-reach")
    by_check = {finding["check"]: finding for finding in document["findings"]}
    assert by_check["nccl-reach"]["nodes"] == ["n2"]
    assert by_check["nodes-alike"]["finding"].startswith("The configuration is not the same everywhere: ")
    site.cluster.nodes["n2"].path("/etc/slurm-fsx/config.yaml").unlink()
    fixed = doctor(site, "head", "--node", "n2", "--fix", "nccl-reach")
    assert "nccl-reach" not in wrong(fixed)
    (fix,) = fixed["fixes"]
    assert (fix["command"], fix["is_done"], fix["nodes"]) == ("slurm-fsx nccl apply-here", True, ["n2"])


def test_a_node_with_another_build_is_named(site: Site) -> None:
    find = "echo /opt/slurm-fsx/lib/python3*/site-packages/slurm_fsx_tools/build-id"
    (path,) = site.cluster.run_on("n2", ["sh", "-c", find]).stdout.split()
    site.cluster.run_on("n2", ["sh", "-c", f"echo 0123456789ab >/root/build-id && mount --bind /root/build-id {path}"])
    try:
        document = doctor(site, "head", "--node", "n[1-2]", "fsx-answers")
    finally:
        site.cluster.run_on("n2", ["umount", path])
    (finding,) = [each for each in document["findings"] if each["check"] == "nodes-alike"]
    assert "(build 0123456789ab) on n2" in finding["finding"]


def test_each_node_is_known_for_what_it_is_after_a_reconfiguration(site: Site) -> None:
    site.cluster.reconfigure()  # from 24.11 on, the daemons' processes have other names then
    for node, kind in (("head", "compute"), ("n1", "head")):
        document = doctor(site, node, "slurm-daemons", "slurm-nodes", "prolog-scripts")
        assert wrong(document) == {}
        told = {finding["finding"] for finding in document["findings"]}
        assert {text for text in told if text.startswith("This is no ")} == {f"This is no {kind} node."}


def test_a_node_of_a_configless_cluster_is_judged_by_its_copies(site: Site) -> None:
    set_slurm(site, "SlurmctldParameters=enable_configless")
    copy = "mkdir -p /run/slurm/conf && cp /etc/slurm/*.conf /run/slurm/conf && mount -t tmpfs none /etc/slurm"
    site.cluster.run_on("n1", ["sh", "-c", copy])
    try:
        assert wrong(doctor(site, "n1", "plugstack", "plugin-build", "container-scope", "slurm-conf")) == {}
    finally:
        site.cluster.run_on("n1", ["sh", "-c", "umount /etc/slurm; rm -r /run/slurm/conf"])


@pytest.mark.parametrize("command", [["containers", "verify"], ["nccl", "verify", "--quick"], ["nccl", "apply-here"]])
def test_what_the_doctor_sends_people_to_does_not_hang_with_fsx(site: Site, command: list[str]) -> None:
    site.cluster.nodes["n1"].hang_fsx()
    try:
        done = site.cluster.run_on("n1", [COMMAND, *command])
    finally:
        site.cluster.nodes["n1"].heal_fsx()
    assert done.returncode == 1
    assert "/fsx did not answer within 2 s" in done.stdout + done.stderr


def test_nodes_that_cannot_be_asked_are_named(site: Site) -> None:
    site.cluster.run_on("head", ["scontrol", "update", "nodename=n2", "state=drain", "reason=fan"])
    document = doctor(site, "head", "--node", "n[1-2]", "fsx-answers")
    (finding,) = [each for each in document["findings"] if each["check"] == "nodes-reached"]
    assert finding["nodes"] == ["n2"]
    assert "drained" in finding["finding"]


def test_a_live_job_shows_whether_tasks_get_nccl(site: Site) -> None:
    document = doctor(site, "head", "--live", "fsx-answers")
    assert wrong(document) == {}
    (told,) = [each["finding"] for each in document["findings"] if each["check"] == "job-environment"]
    assert told.startswith("A job ran on n")
    text = site.cluster.run_on("head", [COMMAND, "doctor", "--live", "fsx-answers"]).stdout.splitlines()
    assert text[0].startswith("ok       A job ran on n")
    assert text[-1].startswith("all is well (1 check in ")
    site.cluster.set_plugstack([])
    document = doctor(site, "head", "--live", "fsx-answers", user="ada")
    assert document["code"] == 2
    (text,) = wrong(document)["job-environment"]
    assert text.startswith("A job does not get the shared NCCL: its LD_LIBRARY_PATH is ")
    assert "no line of our plugin" in wrong(doctor(site, "head", "plugstack"))["plugstack"][0]
