from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.images import make_image
from slurm_fsx_tools.nccl.conditions import Facts
from slurm_fsx_tools.nccl.lint import NothingToRead, lint, lint_all, parse_environment, read_image, read_job

if TYPE_CHECKING:
    from .conftest import Site

CURRENT = Facts(nccl="2.28.7-1", ofi="1.17.2-aws", libfabric="2.1.0", instance="p5.48xlarge")


def harmful(environment: dict[str, str], facts: Facts = CURRENT) -> list[str]:
    return [finding.name for finding in lint(environment, facts, "here") if finding.is_harmful]


@pytest.mark.parametrize(
    ("name", "value", "facts", "is_harmful"),
    [
        pytest.param("NCCL_PROTO", "simple", CURRENT, True, id="stops-the-tuner"),
        pytest.param("NCCL_PROTO", "simple", Facts(ofi="1.5.0"), False, id="needed-once"),
        pytest.param("NCCL_ALGO", "Ring", Facts(), True, id="unknown-versions-are-new"),
        pytest.param("FI_PROVIDER", "efa", CURRENT, False, id="efa"),
        pytest.param("FI_PROVIDER", "tcp", CURRENT, True, id="past-efa"),
        pytest.param("FI_EFA_USE_DEVICE_RDMA", "1", CURRENT, False, id="can"),
        pytest.param("FI_EFA_USE_DEVICE_RDMA", "1", Facts(instance="g5.48xlarge"), True, id="cannot"),
        pytest.param("FI_EFA_USE_DEVICE_RDMA", "0", CURRENT, True, id="should"),
        pytest.param("RDMAV_FORK_SAFE", "1", CURRENT, True, id="never"),
        pytest.param("NCCL_NET", "AWS Libfabric", CURRENT, False, id="network"),
        pytest.param("NCCL_NET", "'AWS Libfabric'", CURRENT, True, id="quoted-network"),
        pytest.param("NCCL_NET", '"AWS Libfabric"', CURRENT, True, id="quoted-network-too"),
        pytest.param("NCCL_NET", "", CURRENT, False, id="empty"),
        pytest.param("NCCL_NET", "Socket", CURRENT, True, id="socket"),
        pytest.param("NCCL_TUNER_PLUGIN", "/opt/x/libnccl-ofi-tuner.so", CURRENT, True, id="tuner-path"),
        pytest.param("NCCL_TUNER_PLUGIN", "ofi", CURRENT, False, id="tuner-word"),
        pytest.param("NCCL_SOCKET_IFNAME", "^docker,lo,eth", CURRENT, True, id="no-eth"),
        pytest.param("NCCL_SOCKET_IFNAME", "^docker,lo,veth", CURRENT, False, id="no-veth"),
        pytest.param("NCCL_DEBUG", "TRACE", CURRENT, True, id="trace"),
        pytest.param("NCCL_DEBUG", "INFO", CURRENT, False, id="info"),
        pytest.param("NCCL_P2P_DISABLE", "1", CURRENT, True, id="no-nvlink"),
        pytest.param("NCCL_P2P_DISABLE", "0", CURRENT, False, id="nvlink"),
        pytest.param("NCCL_NVLS_ENABLE", "0", CURRENT, True, id="no-sharp"),
        pytest.param("NCCL_NVLS_ENABLE", "0", CURRENT._replace(nccl="2.18.1"), False, id="old-sharp"),
        pytest.param("SOMETHING", "else", CURRENT, False, id="unknown"),
    ],
)
def test_what_is_harmful(name: str, value: str, facts: Facts, is_harmful: bool) -> None:
    assert harmful({name: value}, facts) == [name] * is_harmful


def test_each_finding_says_why_and_who_says_so_and_harm_comes_first() -> None:
    findings = lint({"FI_EFA_FORK_SAFE": "1", "NCCL_MIN_NRINGS": "8", "NCCL_PROTO": "simple"}, CURRENT, "here")
    assert [finding.name for finding in findings] == ["NCCL_PROTO", "FI_EFA_FORK_SAFE", "NCCL_MIN_NRINGS"]
    assert all(finding.why and finding.source.startswith("https://") for finding in findings)
    assert "NCCL_MIN_NCHANNELS" in findings[2].why


def test_what_is_needed_is_not_called_useless() -> None:
    assert lint({"NCCL_PROTO": "Simple"}, Facts(ofi="1.5.0"), "here") == []


def test_the_same_in_several_environments_is_said_once() -> None:
    found = lint_all(
        [("a", {"NCCL_ALGO": "Ring"}), ("b", {"NCCL_ALGO": "Ring"}), ("c", {"NCCL_ALGO": "Tree"})], CURRENT
    )
    assert [(finding.value, finding.where) for finding in found] == [("Ring", "a"), ("Tree", "c")]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"A=1\nB=x y\n", id="env"),
        pytest.param(b"A=1\0B=x y\0", id="proc"),
        pytest.param(b"# a script\nexport A=1 # one\n  export B='x y'\necho no=no\n", id="script"),
        pytest.param(b'declare -x A="1"\ndeclare -x B="x y"\n', id="bash"),
    ],
)
def test_environments_are_read_in_every_usual_form(data: bytes) -> None:
    assert parse_environment(data) == {"A": "1", "B": "x y"}


def test_a_jobs_file_and_its_processes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "4711.env"
    path.write_text("# slurm-fsx env 1\ndefault NCCL_ALGO=Ring\nunset X\n")
    code = "print(flush=True); input()"
    environment = {"SLURM_JOB_ID": "4711", "NCCL_DEBUG": "TRACE"}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = read_job(str(path), "4711")
        process.communicate(b"\n")
    assert found[0] == (str(path), {"NCCL_ALGO": "Ring"})
    assert found[1][0] == f"process {process.pid}"
    assert found[1][1]["NCCL_DEBUG"] == "TRACE"
    with pytest.raises(NothingToRead, match="job 4712"):
        read_job(str(tmp_path / "4712.env"), "4712")


def test_an_images_environment_is_read(tmp_path: Path) -> None:
    image = make_image(tmp_path / "image.sqsh", {"NCCL_P2P_DISABLE": "1"})
    assert read_image(str(image), "unsquashfs")["NCCL_P2P_DISABLE"] == "1"


def test_an_image_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    broken = tmp_path / "broken.sqsh"
    broken.write_bytes(b"hsqs" + bytes(200))
    with pytest.raises(NothingToRead, match="cannot be read"):
        read_image(str(broken), "unsquashfs")
    with pytest.raises(NothingToRead, match="not installed"):
        read_image(str(broken), "no-such-unsquashfs")


def command(site: Site, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    config = site.run_dir.parent / "config.yaml"
    config.write_text(f"fsx: {{root: {site.fsx}}}\nruntime_dir: {site.run_dir}\nnccl: {{instance_type: p5.48xlarge}}\n")
    return subprocess.run(
        [sys.executable, "-m", "slurm_fsx_tools", "nccl", *arguments],
        env={"PATH": os.defpath, "SLURM_FSX_CONFIG": str(config), **environment},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_looks_at_its_own_environment(site: Site) -> None:
    done = command(site, "lint", NCCL_ALGO="Ring")
    assert done.returncode == 1
    assert "harmful: NCCL_ALGO=Ring in this environment" in done.stdout
    assert "https://github.com/aws/aws-ofi-nccl/issues/982" in done.stdout
    clean = command(site, "lint")
    assert (clean.returncode, clean.stdout, clean.stderr) == (0, "", "slurm-fsx: nothing harmful\n")


def test_the_command_follows_the_manifest(site: Site) -> None:
    site.install_version("2.12.7_ofi-1.5.0", ofi="1.5.0")
    site.use_version("2.12.7_ofi-1.5.0")
    assert command(site, "lint", NCCL_PROTO="simple").returncode == 0


def test_the_command_looks_at_files_and_prints_for_programs(site: Site) -> None:
    path = site.run_dir / "environment"
    path.write_text("export NCCL_NET=\"'AWS Libfabric'\"\nexport NCCL_BUFFSIZE=1\n")
    done = command(site, "lint", "--file", str(path), "--json")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert document["facts"]["instance"] == "p5.48xlarge"
    first, second = document["findings"]
    assert (first["name"], first["is_harmful"], first["where"]) == ("NCCL_NET", True, str(path))
    assert (second["name"], second["is_harmful"]) == ("NCCL_BUFFSIZE", False)


def test_the_command_looks_at_a_job_and_at_an_image_of_the_catalogue(site: Site) -> None:
    (site.run_dir / "jobs").mkdir()
    (site.run_dir / "jobs/4711.env").write_text("# slurm-fsx env 1\ndefault NCCL_ALGO=Ring\n")
    assert "jobs/4711.env" in command(site, "lint", "--job", "4711").stdout
    (site.fsx / "containers").mkdir()
    make_image(site.fsx / "containers/mine.sqsh", {"NCCL_DEBUG": "TRACE"})
    done = command(site, "lint", "--image", "mine")
    assert (done.returncode, "NCCL_DEBUG=TRACE in" in done.stdout) == (1, True), done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        pytest.param(("--job", "1", "--file", "x"), 2, "give one of", id="two-at-once"),
        pytest.param(("--job", "../1"), 2, "is no job's id", id="no-job"),
        pytest.param(("--job", "999999"), 1, "nothing is known of job 999999", id="no-such-job"),
        pytest.param(("--image", "nothing"), 1, "containers", id="no-image"),
        pytest.param(("--file", "/nonexistent"), 1, "/nonexistent", id="no-file"),
    ],
)
def test_what_cannot_be_looked_at_is_said(site: Site, arguments: tuple[str, ...], code: int, said: str) -> None:
    done = command(site, "lint", *arguments)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_env_shows_every_profile(site: Site) -> None:
    for profile, given in (("documented", True), ("auto", False), ("minimal", False)):
        done = command(site, "env", "--profile", profile, "--explain")
        assert f"profile {profile}:" in done.stdout
        assert ("FI_PROVIDER" in done.stdout) == given
        document = json.loads(command(site, "env", "--profile", profile, "--shell", "json").stdout)
        assert document["profile"] == profile


def test_env_explains_why_auto_gives_something(site: Site) -> None:
    site.install_version("2.12.7_ofi-1.5.0", ofi="1.5.0")
    site.use_version("2.12.7_ofi-1.5.0")
    done = command(site, "env", "--profile", "auto", "--explain")
    assert "aws-ofi-nccl before 1.6" in done.stdout
    assert f"{site.nccl}/versions/2.12.7_ofi-1.5.0/manifest.json" in done.stdout


def test_variables_prints_the_page(site: Site) -> None:
    done = command(site, "variables")
    assert done.stdout.startswith("# NCCL and EFA variables")
