"""Every way in which users ask for a container, on a real Slurm, once for each way of running containers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Site

NEWEST = "nvcr.io_nvidia_pytorch-24.03-py3"
OLDER = "nvcr.io_nvidia_pytorch-24.01-py3"
TUNING = {
    "FI_PROVIDER": "efa",
    "FI_EFA_USE_DEVICE_RDMA": "1",
    "NCCL_PROTO": "simple",
    "NCCL_DEBUG": "INFO",
    "NCCL_ALGO": "Ring",
    "NCCL_MIN_NRINGS": "8",
    "SITE_NCCL_EXTRA": "yes",
}
Environment = Callable[[str], dict[str, str]]


def assert_has_nccl(task: dict[str, str]) -> None:
    assert {name: task.get(name) for name in TUNING} == TUNING
    assert task["NCCL_VERSION"] == "2.28.7"
    assert task["LD_LIBRARY_PATH"].split(":")[:2] == ["/fsx/nccl/lib", "/usr/local/lib"]
    assert task["LIBRARY_PATH"].split(":")[:2] == ["/fsx/nccl/lib", "/usr/local/lib"]


def assert_runs_in(task: dict[str, str], image: str = NEWEST) -> None:
    assert task.get("IMAGE") == image
    assert_has_nccl(task)


def assert_on_host(task: dict[str, str]) -> None:
    assert "IMAGE" not in task
    assert_has_nccl(task)


def test_sbatch_line(site: Site, environment: Environment) -> None:
    assert_runs_in(environment(site.sbatch("#SBATCH --container-name=pytorch\nenv")))


def test_sbatch_option(site: Site, environment: Environment) -> None:
    assert_runs_in(environment(site.sbatch("env", "--container-name=pytorch")))


def test_srun_with_several_tasks_on_two_nodes(site: Site) -> None:
    found = site.srun("--nodes=2", "--ntasks-per-node=2", "--container-name=pytorch")
    assert [task["SLURMD_NODENAME"] for task in found] == ["n1", "n1", "n2", "n2"]
    for task in found:
        assert_runs_in(task)


def test_srun_inside_a_host_script(site: Site) -> None:
    output = site.sbatch("srun --label --container-name=pytorch env; echo; srun --label env", "--nodes=2")
    inside, outside = output.split("\n\n")
    for task in site_tasks(inside, 2):
        assert_runs_in(task)
    for task in site_tasks(outside, 2):
        assert_on_host(task)


def site_tasks(output: str, count: int) -> list[dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for line in output.splitlines():
        label, _, text = line.partition(": ")
        name, _, value = text.partition("=")
        if label.isdigit():  # not "srun: Step created ...", where the step before it was not quite over
            found.setdefault(label, {})[name] = value
    assert len(found) == count
    return list(found.values())


def test_under_salloc(site: Site, environment: Environment) -> None:
    done = site.cluster.salloc("--nodes=1", "srun", "--container-name=pytorch", "env")
    assert_runs_in(environment(done.stdout))


def test_arrays(site: Site, environment: Environment) -> None:
    job = site.cluster.sbatch("#!/bin/sh\nenv\n", "--array=0-3", "--container-name=pytorch")
    assert site.cluster.wait(job) == "COMPLETED", job.output
    assert len(job.outputs) == 4
    for output in job.outputs.values():
        assert_runs_in(environment(output))


@pytest.mark.parametrize("export", ["NONE", "ALL", "A=1"])
def test_every_export(site: Site, environment: Environment, export: str) -> None:
    for found in (
        site.srun(f"--export={export}", "--container-name=pytorch")[0],
        environment(site.sbatch("env", f"--export={export}", "--container-name=pytorch")),
    ):
        assert_runs_in(found)
        assert found.get("A") == ("1" if export == "A=1" else None)


@pytest.mark.parametrize("name", ["pytorch-24.01", "pytorch-24.01-py3", OLDER])
def test_a_pinned_name(site: Site, name: str) -> None:
    assert_runs_in(site.srun(f"--container-name={name}")[0], OLDER)


def test_an_explicit_image_wins(site: Site, environment: Environment) -> None:
    image = f"/fsx/containers/{OLDER}.sqsh"
    assert_runs_in(site.srun("--container-name=pytorch", f"--container-image={image}")[0], OLDER)
    named = site.sbatch("env", "--container-name=pytorch", f"--container-image={image}")
    assert_runs_in(environment(named), OLDER)


def test_an_explicit_image_without_a_name(site: Site) -> None:
    assert_runs_in(site.srun(f"--container-image=/fsx/containers/{OLDER}.sqsh")[0], OLDER)


def test_a_step_without_a_container_stays_on_the_host(site: Site) -> None:
    for task in site.srun("--nodes=2"):
        assert_on_host(task)


def test_an_inner_step_does_not_inherit_the_outer_container(site: Site, environment: Environment) -> None:
    # What a batch script that was submitted with a name has in its environment, where it can call srun.
    inherited = f"export SLURM_FSX_CONTAINER_IMAGE=/fsx/containers/{NEWEST}.sqsh"
    assert_on_host(environment(site.sbatch(f"{inherited}; srun env")))


def test_a_step_after_a_named_one_stays_on_the_host(site: Site) -> None:
    done = site.cluster.salloc("sh", "-c", "srun --container-name=pytorch true && srun --label env")
    [task] = site_tasks(done.stdout, 1)
    assert_on_host(task)


def test_pyxis_flags_are_cut_off(site: Site) -> None:
    assert_runs_in(site.srun("--container-name=pytorch:no_exec")[0])


def test_a_name_from_the_environment_counts_like_the_option(site: Site) -> None:
    if site.runtime == "pyxis" and "PYXIS_CONTAINER_NAME" not in pyxis_strings():
        pytest.skip("this Pyxis is older than 0.21, and reads no option from the environment")
    assert_runs_in(site.srun(env={"PYXIS_CONTAINER_NAME": "pytorch"})[0])


def pyxis_strings() -> str:
    import os
    from pathlib import Path

    return Path(os.environ["SLURM_FSX_TEST_PYXIS"]).read_bytes().decode("latin-1")


def test_a_name_that_pyxis_knows_and_the_catalogue_does_not(site: Site) -> None:
    if site.runtime == "bwrap":
        pytest.skip("without Pyxis there are no containers but the catalogue's")
    image = f"/fsx/containers/{OLDER}.sqsh"
    output = site.sbatch(
        f"srun --container-image={image} --container-name=mine true && srun --label --container-name=mine env"
    )
    [task] = site_tasks("\n".join(line for line in output.splitlines() if line.startswith("0: ")), 1)
    assert_runs_in(task, OLDER)


def test_an_unknown_name_gets_a_hint_with_the_nearest_ones(site: Site) -> None:
    done = site.cluster.srun("--container-name=pytroch", "true")
    assert done.returncode != 0
    [hint] = [line for line in done.stderr.splitlines() if "no image is called" in line]
    assert "'pytroch'" in hint
    assert "pytorch" in hint.replace("pytroch", "")


def test_an_unknown_name_is_refused_at_submission_where_the_site_says_so(site: Site) -> None:
    site.configure("containers: {unknown_name: reject}\n")
    try:
        refused = site.cluster.submit("#!/bin/sh\ntrue\n", "--container-name=pytroch")
        assert refused.returncode != 0
        assert refused.stdout == ""
        assert "pytorch" in refused.stderr
        assert site.cluster.srun("--container-name=pytroch", "true").returncode != 0
        assert_runs_in(site.srun("--container-name=pytorch")[0])
    finally:
        site.configure("")


def test_what_the_user_set_stays(site: Site, environment: Environment) -> None:
    task = site.srun("--container-name=pytorch", env={"NCCL_DEBUG": "TRACE", "FI_PROVIDER": "tcp"})[0]
    assert (task["NCCL_DEBUG"], task["FI_PROVIDER"], task["NCCL_ALGO"]) == ("TRACE", "tcp", "Ring")
    task = environment(site.sbatch("export NCCL_DEBUG=WARN; srun env"))
    assert (task["NCCL_DEBUG"], task["NCCL_ALGO"]) == ("WARN", "Ring")


@pytest.mark.parametrize("container", [(), ("--container-name=pytorch",)], ids=["host", "container"])
def test_nccl_off(site: Site, environment: Environment, container: tuple[str, ...]) -> None:
    names = {*TUNING, "NCCL_VERSION", "LD_LIBRARY_PATH", "LIBRARY_PATH"}
    assert not names & set(site.srun("--nccl=off", *container)[0])
    assert not names & set(environment(site.sbatch("env", "--nccl=off", *container)))


def test_nccl_off_for_one_step_of_a_job(site: Site) -> None:
    output = site.sbatch(
        "srun --label --nccl=off --container-name=pytorch env; echo; srun --label --container-name=pytorch env"
    )
    off, on = (
        site_tasks("\n".join(line for line in part.splitlines() if line.startswith("0: ")), 1)[0]
        for part in output.split("\n\n")
    )
    assert not set(TUNING) & set(off)
    assert off["IMAGE"] == NEWEST
    assert_runs_in(on)


def test_an_image_with_an_nccl_of_its_own_keeps_it(site: Site) -> None:
    task = site.srun("--container-name=own-nccl")[0]
    assert task["NCCL_VERSION"] == "9.9.9"
    assert "/fsx/nccl/lib" not in task.get("LD_LIBRARY_PATH", "")
    assert {name: task.get(name) for name in TUNING} == TUNING


@pytest.mark.parametrize(("in_container", "seen"), [("always", True), ("never", False)])
def test_in_container_says_it_outright(site: Site, in_container: str, seen: bool) -> None:
    site.configure(f"nccl: {{in_container: {in_container}}}\n")
    try:
        for name in ("own-nccl", "pytorch"):
            task = site.srun("--container-name=" + name)[0]
            assert ("/fsx/nccl/lib" in task.get("LD_LIBRARY_PATH", "")) == seen
            assert task["NCCL_DEBUG"] == "INFO"
        assert_on_host(site.srun()[0])
    finally:
        site.configure("")


def test_a_requeued_job_runs_as_before(site: Site, environment: Environment) -> None:
    script = '#!/bin/sh\nenv\n[ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] && exit 0\nsleep 60\n'
    cluster = site.cluster
    job = cluster.sbatch(script, "--container-name=pytorch", "--requeue")
    cluster.wait_until(lambda: "NCCL_DEBUG" in job.output, "the job running")
    requeued = cluster.run_on("head", ["scontrol", "requeue", str(job.id)])
    assert requeued.returncode == 0, requeued.stderr
    assert cluster.wait(job) == "COMPLETED"
    found = environment(job.output)
    assert found["SLURM_RESTART_COUNT"] == "1"
    assert_runs_in(found)


def test_the_image_of_the_submission_is_used_whatever_came_since(site: Site, environment: Environment) -> None:
    cluster = site.cluster
    job = cluster.sbatch("#!/bin/sh\nenv\n", "--container-name=pytorch", "--hold")
    newer = site.image("nvcr.io_nvidia_pytorch-24.10-py3")
    try:
        assert_runs_in(site.srun("--container-name=pytorch")[0], "nvcr.io_nvidia_pytorch-24.10-py3")
        cluster.run_on("head", ["scontrol", "release", str(job.id)])
        assert cluster.wait(job) == "COMPLETED"
        assert_runs_in(environment(job.output))
    finally:
        newer.unlink()
        site.index()


def test_an_image_that_is_gone_when_the_job_starts_is_a_clear_error(site: Site) -> None:
    cluster = site.cluster
    image = site.image("docker.io_library_passing-1.0")
    job = cluster.sbatch("#!/bin/sh\nenv\n", "--container-name=passing", "--hold")
    image.unlink()
    cluster.run_on("head", ["scontrol", "release", str(job.id)])
    assert cluster.wait(job) == "FAILED"
    assert str(image).replace(str(cluster.fsx), "/fsx") in job.output
    assert "it is gone" in job.output
    assert set(cluster.node_states().values()) == {"idle"}


HOSTILE = [
    pytest.param("..", id="dots"),
    pytest.param("../../etc/passwd", id="path"),
    pytest.param("/etc/passwd", id="absolute"),
    pytest.param("py\ntorch", id="line-break"),
    pytest.param("py\ttorch", id="tab"),
    pytest.param("x" * 300, id="long"),
    pytest.param("$(touch /tmp/owned)`touch /tmp/owned`;touch /tmp/owned", id="shell"),
    pytest.param("пайторч", id="unicode"),
    pytest.param("-h", id="option"),
    pytest.param("#", id="comment"),
    pytest.param("%s%n", id="format"),
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_fails_as_a_name_and_hurts_nobody(site: Site, name: str) -> None:
    done = site.cluster.srun(f"--container-name={name}", "true")
    assert done.returncode != 0
    assert not site.cluster.head.path("/tmp/owned").exists()
    assert_on_host(site.srun()[0])
    site.cluster.wait_until_idle()


def test_a_hostile_environment_reaches_the_task_as_it_was_and_nothing_else(site: Site) -> None:
    env = {"EVIL": "a\nNCCL_DEBUG=OFF\nexport X=1", "SLURM_FSX_CONTAINER_IMAGE": "/etc/passwd", "LD_LIBRARY_PATH": ""}
    task = site.srun("--job-name=a\nb=c", env=env)[0]
    assert_on_host(task)
