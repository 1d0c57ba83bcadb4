"""An NCCL version as jobs see it, and the bandwidth that a test program tells, on real Slurm with pretended GPUs."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cluster import Cluster
from lab.images import make_image
from lab.nccl import install_nccl
from lab.nccl_version import VERSION, install_version

from .conftest import COMMAND, SYSTEM, plugstack

HOST_TRUE = Path("/bin/true")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, installation: Path) -> Iterator[Cluster]:
    """Four nodes with two pretended GPUs each, an NCCL version, and two images: with a C library and without."""
    share = installation / "share/slurm-fsx"
    with Cluster.start(
        tmp_path_factory.mktemp("verify"),
        nodes=4,
        gpus=2,
        installation=installation,
        plugstack=plugstack("bwrap"),
        prolog=[share / "prolog.d/50-slurm-fsx"],
        epilog=[share / "epilog.d/50-slurm-fsx"],
        system=SYSTEM,
    ) as cluster:
        install_nccl(cluster.fsx)
        install_version(cluster.fsx)
        containers = cluster.fsx / "containers"
        make_image(containers / "quay.io_x_static-1.sqsh")
        make_image(containers / "quay.io_x_whole-1.sqsh", copies=loader_files())
        yield cluster


@pytest.fixture(autouse=True)
def speed(cluster: Cluster) -> Iterator[Path]:
    """The file with the bandwidth that the test program tells, in MB/s; afterwards as it was, without a history."""
    file = cluster.fsx / "nccl/versions" / VERSION / "bin/SPEED"
    yield file
    file.write_text("90000\n")
    (cluster.fsx / "logs/nccl/history.jsonl").unlink(missing_ok=True)


def loader_files() -> dict[str, Path]:
    """The host's loader and C library, and a program that needs them, by their place in an image."""
    output = subprocess.run(["ldd", HOST_TRUE], capture_output=True, text=True, check=True).stdout
    paths = [Path(path) for path in re.findall(r"(/\S+) \(0x", output)]
    return {"bin/true": HOST_TRUE, **{str(path).lstrip("/"): path.resolve() for path in paths}}


def nccl(cluster: Cluster, *arguments: str, user: str = "root") -> subprocess.CompletedProcess[str]:
    return cluster.run_on("head", [COMMAND, "nccl", *arguments], user)


def verify(cluster: Cluster, *arguments: str) -> dict[str, tuple[str, str]]:
    done = nccl(cluster, "verify", "--json", *arguments)
    found = {each["check"]: (each["state"], each["detail"]) for each in json.loads(done.stdout)["findings"]}
    assert done.returncode == int(any(state == "failed" for state, _ in found.values())), done.stderr
    return found


def test_a_whole_version_reaches_jobs(cluster: Cluster) -> None:
    found = verify(cluster)
    assert {state for state, _ in found.values()} == {"ok"}, found
    assert found["version"][1] == "the library says 2.28.7"
    assert found["job on the host"][1].startswith("LD_LIBRARY_PATH has /fsx/nccl")
    assert found["libnccl-net-ofi.so on the host"] == ("ok", "nothing is missing")
    text = nccl(cluster, "verify")
    assert f"{VERSION}: no of {len(found)} checks failed" in text.stderr


def test_in_a_container_the_libraries_are_loaded_by_its_own_c_library(cluster: Cluster) -> None:
    found = verify(cluster, "--container", "whole")
    assert found["container whole"][0] == "ok"
    assert found["libnccl.so.2 in container whole"] == ("ok", "nothing is missing")
    found = verify(cluster, "--container", "static")
    assert found["libnccl.so.2 in container static"] == ("failed", "no C library's loader is there")


def test_what_was_found_of_an_image_is_kept_until_the_image_changes(cluster: Cluster) -> None:
    image = cluster.fsx / "containers/quay.io_x_whole-1.sqsh"
    verify(cluster, "--container", "whole")
    file = f"/fsx/containers/{image.name}"
    check = f"libnccl.so.2 in image {file}"
    assert re.fullmatch(r"nothing is missing \(seen [-0-9]+\)", verify(cluster, "--image", file)[check][1])
    assert verify(cluster, "--image", file, "--again")[check][1] == "nothing is missing"
    status = image.stat()
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert verify(cluster, "--image", file)[check][1] == "nothing is missing"


def test_without_slurm_the_files_are_looked_at_and_the_rest_is_skipped(cluster: Cluster) -> None:
    done = cluster.run_on("head", [COMMAND, "nccl", "verify", "--json"], env={"PATH": "/nowhere"})
    findings = json.loads(done.stdout)["findings"]
    assert (done.returncode, findings[-1]["state"], findings[-1]["detail"]) == (0, "skipped", "srun is not here")


def test_a_job_that_does_not_get_the_version_is_found(cluster: Cluster) -> None:
    for node in cluster.machines:
        node.write("/etc/slurm-fsx/config.yaml", "nccl: {enabled: false}\n")
    try:
        found = verify(cluster)
    finally:
        for node in cluster.machines:
            node.path("/etc/slurm-fsx/config.yaml").unlink()
    assert found["job on the host"][0] == "failed"


def test_with_the_shared_file_system_away_nothing_hangs(cluster: Cluster) -> None:
    cluster.write_on_all("/etc/slurm-fsx/config.yaml", "fsx: {timeout: 1.0}\n")
    cluster.head.hang_fsx()
    try:
        for command in (["test"], ["history"]):
            done = nccl(cluster, *command)
            assert done.returncode == 1
            assert "/fsx did not answer" in done.stderr
    finally:
        cluster.head.heal_fsx()
        for node in cluster.machines:
            node.path("/etc/slurm-fsx/config.yaml").unlink()


def test_the_bandwidth_is_measured_drawn_and_kept(cluster: Cluster) -> None:
    done = nccl(cluster, "test", "--plot", "/root/busbw.svg", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["nodes"], found["gpus_per_node"], found["version"]) == (0, ["n1", "n2"], 2, VERSION)
    assert (found["rows"][-1]["size_bytes"], found["busbw"]["134217728"], found["wrong"]) == (128 << 20, 90.0, 0)
    assert cluster.head.path("/root/busbw.svg").read_text().startswith("<?xml")
    lines = (cluster.fsx / "logs/nccl/history.jsonl").read_text().splitlines()
    assert [json.loads(line)["nodes"] for line in lines] == [["n1", "n2"]]
    text = nccl(cluster, "test", "--nodelist=n[3-4]")
    assert "128M  30.00    90.00" in text.stdout
    assert f"{VERSION} on n[3-4]: 90.00 GB/s at the largest size" in text.stdout
    kept = nccl(cluster, "history")
    assert [line.split()[2] for line in kept.stdout.splitlines()[1:]] == ["n[1-2]", "n[3-4]"]


def test_a_run_that_is_slower_than_usual_is_told_and_the_slow_node_named(cluster: Cluster, speed: Path) -> None:
    for pair in ("n[1-2]", "n[1,4]", "n[2,4]"):
        assert nccl(cluster, "test", f"--nodelist={pair}").returncode == 0
    speed.write_text("60000\n")
    slow = nccl(cluster, "test", "--nodelist=n[1,3]")
    assert slow.returncode == 1
    assert "slower than usual: 90.00 GB/s is the median of 3 earlier runs like this" in slow.stderr
    assert "n3 is slow: 60.00 GB/s" in nccl(cluster, "history").stderr


def test_an_ordinary_user_measures_too_but_keeps_nothing(cluster: Cluster) -> None:
    nccl(cluster, "test")
    done = nccl(cluster, "test", user="ada")
    assert done.returncode == 0
    assert "this run is not kept: /fsx/logs/nccl/history.jsonl: Permission denied" in done.stderr
    assert len((cluster.fsx / "logs/nccl/history.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["--nodes=5"], "4 nodes with GPUs can take jobs, 5 are needed", id="too many nodes"),
        pytest.param(["--nodelist=n9"], "Slurm has no node n9", id="no such node"),
        pytest.param(["../x"], "'../x' is no version", id="no version's name"),
        pytest.param(["--plot=a.doc"], "a.doc is no name of a picture", id="no picture"),
        pytest.param(["--gpus=8"], "srun", id="more GPUs than there are"),
    ],
)
def test_what_cannot_be_measured_is_refused(cluster: Cluster, arguments: list[str], said: str) -> None:
    done = nccl(cluster, "test", *arguments)
    assert done.returncode != 0
    assert said in done.stderr
    assert not (cluster.fsx / "logs/nccl/history.jsonl").exists()


def test_a_test_that_fails_is_told_in_its_own_words(cluster: Cluster, speed: Path) -> None:
    script = speed.with_name("all_reduce_perf.sh")
    whole = script.read_text()
    script.write_text("#!/bin/sh\necho 'n1:1:1 [0] net.cc:9 NCCL WARN no network'\nexit 3\n")
    try:
        done = nccl(cluster, "test")
    finally:
        script.write_text(whole)
    assert done.returncode == 1
    assert "nothing was measured: n1:1:1 [0] net.cc:9 NCCL WARN no network" in done.stderr
