"""Which NCCL jobs get on a real Slurm: versions, profiles, switches, and what is said about it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.nccl import install_version, remove_versions, use_version

from .conftest import COMMAND

if TYPE_CHECKING:
    from .conftest import Site

OLD = "2.27.7-1_ofi-1.16.3-aws_cuda-13.0"
NEW = "2.28.7-1_ofi-1.17.2-aws_cuda-13.0+x"
Environment = Callable[[str], dict[str, str]]
PROFILE = "nccl:\n  profiles:\n    fast: {NCCL_BUFFSIZE: '8388608', NCCL_DEBUG: WARN}\n"


def with_versions(site: Site) -> Iterator[Site]:
    fsx = site.cluster.fsx
    install_version(fsx, OLD, "1.16.3-aws")
    install_version(fsx, NEW)
    use_version(fsx, OLD)
    site.configure(PROFILE)
    yield site
    site.configure("")
    remove_versions(fsx)


@pytest.fixture
def ours(site: Site) -> Iterator[Site]:
    """A cluster with two versions of ours, for each way of running containers."""
    yield from with_versions(site)


@pytest.fixture
def bare(bare_site: Site) -> Iterator[Site]:
    """A cluster with two versions of ours."""
    yield from with_versions(bare_site)


def library(task: dict[str, str]) -> str:
    return task.get("LD_LIBRARY_PATH", "").split(":")[0]


def folder(version: str) -> str:
    return f"/fsx/nccl/versions/{version}/lib"


def users_of(site: Site, version: str) -> set[str]:
    marks = site.cluster.fsx / "nccl/.uses" / version
    return {path.name for path in marks.iterdir()} if marks.exists() else set()


@pytest.mark.parametrize("container", ["", "--container-name=pytorch"], ids=["host", "container"])
def test_a_job_keeps_its_version_through_a_switch_and_the_next_one_has_the_new(ours: Site, container: str) -> None:
    cluster = ours.cluster
    go = cluster.home("ada") / "go"
    go.unlink(missing_ok=True)
    step = f"srun {container} env"
    job = cluster.sbatch(f"#!/bin/sh\n{step}\necho first\nwhile [ ! -e $HOME/go ]; do sleep 0.1; done\n{step}\n")
    cluster.wait_until(lambda: "first" in job.output, "the first step")
    assert users_of(ours, OLD) == {f"lab.{job.id}"}
    use_version(cluster.fsx, NEW)
    assert library(ours.srun(*([container] if container else []))[0]) == folder(NEW)
    go.touch()
    assert cluster.wait(job) == "COMPLETED", job.output
    before, after = (
        dict(line.split("=", 1) for line in part.splitlines() if "=" in line) for part in job.output.split("first")
    )
    assert library(before) == library(after) == folder(OLD)
    assert before["NCCL_VERSION"] == after["NCCL_VERSION"] == "2.27.7-1"
    assert len(users_of(ours, NEW)) == 1


def test_a_job_can_ask_for_a_version(ours: Site, environment: Environment) -> None:
    [host] = ours.srun(f"--nccl={NEW}")
    [inside] = ours.srun(f"--nccl={NEW}", "--container-name=pytorch")
    script = environment(ours.sbatch(f"#SBATCH --nccl={NEW}\nenv"))
    assert [library(task) for task in (host, inside, script)] == [folder(NEW)] * 3
    assert host["NCCL_VERSION"] == "2.28.7-1"
    assert library(ours.srun()[0]) == folder(OLD)
    assert len(users_of(ours, NEW)) == 3


def test_an_image_with_an_nccl_of_its_own_keeps_it(ours: Site) -> None:
    [task] = ours.srun("--container-name=own-nccl", "--nccl=fast")
    assert task["NCCL_VERSION"] == "9.9.9"
    assert "/fsx/nccl" not in task.get("LD_LIBRARY_PATH", "")
    assert task["NCCL_DEBUG"] == "WARN"


def test_a_job_on_two_nodes_is_marked_once_and_one_that_is_off_never(bare: Site) -> None:
    job = bare.cluster.sbatch("#!/bin/sh\nsrun true\n", "--nodes=2")
    assert bare.cluster.wait(job) == "COMPLETED"
    assert users_of(bare, OLD) == {f"lab.{job.id}"}
    off = bare.cluster.sbatch("#!/bin/sh\nenv\n", "--nccl=off")
    assert bare.cluster.wait(off) == "COMPLETED"
    assert users_of(bare, OLD) == {f"lab.{job.id}"}
    assert "NCCL" not in off.output


@pytest.mark.parametrize("container", [(), ("--container-name=pytorch",)], ids=["host", "container"])
def test_a_job_can_choose_a_profile(ours: Site, container: tuple[str, ...]) -> None:
    [fast] = ours.srun("--nccl=fast", *container)
    assert (fast["NCCL_BUFFSIZE"], fast["NCCL_DEBUG"], fast.get("NCCL_ALGO")) == ("8388608", "WARN", None)
    for profile in ("auto", "minimal"):
        [task] = ours.srun(f"--nccl={profile}", *container)
        assert {name for name in task if name.startswith(("NCCL_", "FI_"))} == {"NCCL_VERSION"}
        assert library(task) == folder(OLD)
    assert ours.srun("--nccl=documented", *container)[0]["NCCL_ALGO"] == "Ring"


def test_the_steps_of_a_job_have_its_profile_without_a_word(bare: Site) -> None:
    output = bare.sbatch("#SBATCH --nccl=fast\nsrun env 2>&1")
    assert "NCCL_DEBUG=WARN" in output
    assert "slurm-fsx:" not in output
    done = bare.cluster.salloc("--nccl=fast", "srun", "env")
    assert "NCCL_DEBUG=WARN" in done.stdout
    assert "slurm-fsx:" not in done.stderr


def test_a_step_that_asks_for_a_profile_is_told_that_only_jobs_choose_one(bare: Site) -> None:
    output = bare.sbatch("srun --nccl=fast env 2>&1")
    assert "--nccl=fast is for a whole job" in output
    assert "NCCL_DEBUG=INFO" in output


@pytest.mark.parametrize("wanted", ["fsat", "2.99.1-1"])
def test_what_nobody_knows_is_said_at_submission_and_the_job_gets_the_default(bare: Site, wanted: str) -> None:
    cluster = bare.cluster
    done = cluster.srun(f"--nccl={wanted}", "env")
    assert done.returncode == 0
    assert f"--nccl={wanted} is no profile (off documented auto minimal fast) and no version" in done.stderr
    assert "NCCL_DEBUG=INFO" in done.stdout
    assert f"LD_LIBRARY_PATH={folder(OLD)}" in done.stdout
    assert [line for line in cluster.syslog if f"--nccl='{wanted}' is neither" in line.text]


@pytest.mark.parametrize("wanted", ["documented", "fast", OLD, "off"])
def test_what_is_known_is_taken_in_silence(bare: Site, wanted: str) -> None:
    assert "slurm-fsx" not in bare.cluster.srun(f"--nccl={wanted}", "true").stderr


@pytest.mark.parametrize("wanted", ["a b", "../x", "x" * 101, ""])
def test_what_can_be_no_name_is_refused_at_submission(bare: Site, wanted: str) -> None:
    done = bare.cluster.srun(f"--nccl={wanted}", "true")
    assert done.returncode != 0
    assert "--nccl takes off, the name of a profile, or the id of a version" in done.stderr


def test_fail_fast_reaches_the_task_as_the_plugin_spells_it(bare: Site) -> None:
    bare.configure("nccl: {fail_fast: true, profile: minimal}\n")
    assert bare.srun()[0]["NCCL_NET"] == "AWS Libfabric"


def test_auto_follows_what_set_up_has_found(bare: Site) -> None:
    bare.configure("nccl: {profile: auto}\n")
    assert "NCCL_SHM_USE_CUDA_MEMCPY" not in bare.srun()[0]
    bare.cluster.write_on_all("/run/slurm-fsx/instance-type", "g5.48xlarge\n")
    try:
        assert bare.srun()[0]["NCCL_SHM_USE_CUDA_MEMCPY"] == "1"
    finally:
        for machine in bare.cluster.machines:
            bare.cluster.run_on(machine.name, ["rm", "/run/slurm-fsx/instance-type"])


def test_a_users_own_job_is_linted_on_its_node(bare: Site) -> None:
    output = bare.sbatch(f"export NCCL_P2P_DISABLE=1; {COMMAND} nccl lint --json --job $SLURM_JOB_ID || :")
    findings = {finding["name"]: finding for finding in json.loads(output)["findings"] if finding["is_harmful"]}
    assert set(findings) == {"NCCL_ALGO", "NCCL_PROTO", "NCCL_P2P_DISABLE"}
    assert findings["NCCL_P2P_DISABLE"]["where"].startswith("process ")


@pytest.mark.parametrize("shell", [["sh"], ["bash"], ["busybox", "sh"]], ids=lambda shell: shell[0])
def test_a_login_survives_a_shared_file_system_that_hangs_beyond_signals(
    bare: Site, shell: list[str], installation: Path
) -> None:
    node = bare.cluster.machine("n1")
    script = installation / "share/slurm-fsx/profile.d/nccl-shared.sh"
    node.write("/etc/profile.d/nccl-shared.sh", script.read_text())
    session = [*shell, "-c", 'set -eu; . /etc/profile.d/nccl-shared.sh; echo "alive ${SITE_NCCL_EXTRA-none}"']
    assert node.run(session, "ada").stdout == "alive yes\n"
    node.hang_fsx()
    try:
        done = node.run(session, "ada")
    finally:
        node.heal_fsx()
    assert (done.stdout, done.stderr) == ("alive none\n", "")


@pytest.mark.parametrize("site", ["pyxis"], indirect=True)
def test_enroot_shows_every_container_the_shared_nccl_and_gives_it_to_those_started_by_hand(
    ours: Site, installation: Path
) -> None:
    cluster = ours.cluster
    path = "/etc/enroot/hooks.d/60-slurm-fsx-nccl.sh"
    cluster.write_on_all(
        path, (installation / "share/slurm-fsx/enroot/hooks.d/60-slurm-fsx-nccl.sh").read_text(), 0o755
    )
    try:
        for image, expected in (("nvcr.io_nvidia_pytorch-24.03-py3", folder(OLD)), ("own-nccl", "")):
            start = f"enroot create --name mine /fsx/containers/{image}.sqsh && enroot start mine env"
            done = cluster.run_on("n1", ["sh", "-c", f"{start}; enroot start mine touch /fsx/nccl/x"], "ada")
            cluster.run_on("n1", ["enroot", "remove", "--force", "mine"], "ada")
            found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
            assert (found["IMAGE"], library(found)) == (image, expected), done.stderr
            assert "Read-only file system" in done.stderr
        assert library(ours.srun("--container-name=pytorch")[0]) == folder(OLD)
        assert "LD_LIBRARY_PATH" not in ours.srun("--container-name=pytorch", "--nccl=off")[0]
    finally:
        cluster.run_on("head", ["rm", path])
        for name in cluster.nodes:
            cluster.run_on(name, ["rm", path])
