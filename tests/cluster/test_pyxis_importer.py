"""The importer as Pyxis runs it, and as a process of a user on a node."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.cluster import Cluster
from lab.images import make_image
from lab.pyxis import PLUGIN as PYXIS
from lab.pyxis import Pyxis
from lab.registry import Image, Registry, configuration, count_asked, layer_of

from .conftest import COMMAND, PLUGIN, SYSTEM, Site

if TYPE_CHECKING:
    from lab.node import Node

IMPORTER = "/opt/slurm-fsx/libexec/slurm-fsx-importer"
CATALOGUED = "nvcr.io_nvidia_pytorch-24.03-py3"
REGISTRY = "10.0.0.254:5000"
CONFIG = f"containers: {{http_registries: ['{REGISTRY}'], stage: /scratch}}\n"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, installation: Path) -> Iterator[Cluster]:
    """Two nodes with the real Pyxis where there is one, a catalogue, and a registry on the head node."""
    folder = tmp_path_factory.mktemp("importer")
    pyxis = Pyxis.from_environment()
    with Cluster.start(folder, nodes=2, installation=installation, pyxis=pyxis, system=SYSTEM) as running:
        Site(running, "pyxis", pyxis).set_up_containers()
        image = make_image(running.fsx / "containers" / f"{CATALOGUED}.sqsh", files={"etc/source": "catalogue\n"})
        (running.fsx / "registry").mkdir()
        with Registry(running.fsx / "registry") as source:
            tool = layer_of(make_image(folder / "tool.sqsh", files={"etc/source": "registry\n"}))
            source.push("team/tool:1", Image([tool]), docker_format=True)
        running.write_on_all("/etc/slurm-fsx/config.yaml", CONFIG)
        running.head.write("/etc/docker-registry.yml", configuration("/fsx/registry/data", REGISTRY))
        running.head.start_daemon("registry", ["docker-registry", "serve", "/etc/docker-registry.yml"])
        for user in (2001, 2002):
            caches = running.fsx / "containers/.slurm-fsx/caches"
            for path, mode in ((caches.parent, 0o755), (caches, 0o711), (caches / str(user), 0o700)):
                path.mkdir(exist_ok=True)
                path.chmod(mode)
            os.chown(caches / str(user), user, user)
        os.utime(image.parent, (1_700_000_000, 1_700_000_000))
        done = running.run_on("head", [COMMAND, "containers", "index"])
        assert done.returncode == 0, done.stderr
        for node in running.nodes.values():
            node.path("/scratch").mkdir()
        yield running


def get(node: Node, uri: str, user: str = "ada", job: str = "1") -> subprocess.CompletedProcess[str]:
    return node.run([IMPORTER, "get", uri], user, env={"SLURM_JOB_ID": job}, timeout_s=120)


def log(cluster: Cluster) -> str:
    return (cluster.head.log / "registry.out").read_text()


@pytest.mark.parametrize(
    "uri",
    ["docker://pytorch", "docker://nvcr.io/nvidia/pytorch:24.03-py3", "docker://nvcr.io#nvidia/pytorch:24.03-py3"],
)
def test_the_catalogue_answers_on_stdout_and_nothing_is_said(cluster: Cluster, uri: str) -> None:
    done = get(cluster.nodes["n1"], uri)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"/fsx/containers/{CATALOGUED}.sqsh\n", "")


def test_release_is_fine_twice_and_before_any_get(cluster: Cluster) -> None:
    for _ in range(2):
        done = cluster.run_on("n1", [IMPORTER, "release"], "ada")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("arguments", [[], ["get"], ["get", "a", "b"], ["put", "a"]], ids=repr)
def test_other_words_are_refused(cluster: Cluster, arguments: list[str]) -> None:
    done = cluster.run_on("n1", [IMPORTER, *arguments], "ada")
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage" in done.stderr


def test_a_hung_fsx_ends_with_a_message(cluster: Cluster) -> None:
    node = cluster.nodes["n2"]
    node.hang_fsx()
    try:
        done = get(node, "docker://pytorch")
    finally:
        node.heal_fsx()
    assert (done.returncode, done.stdout) == (1, "")
    assert "/fsx did not answer within 2 s" in done.stderr


def test_what_a_user_has_in_the_environment_changes_nothing_but_that_users_own_run(cluster: Cluster) -> None:
    home = cluster.home("ada")
    (home / "json.py").write_text("raise SystemExit('a module of the user')\n")
    node = cluster.nodes["n1"]
    env = {"PYTHONPATH": str(home), "PYTHONSTARTUP": f"{home}/json.py", "PYTHONHOME": "/nowhere", "PATH": "/nowhere"}
    done = node.run([IMPORTER, "get", "docker://pytorch"], "ada", env=env, cwd="/home/ada")
    assert (done.returncode, done.stderr) == (0, "")
    (home / "json.py").unlink()


def test_nodes_and_users_pull_what_is_not_in_the_catalogue_once_each(cluster: Cluster) -> None:
    uri = f"docker://{REGISTRY}/team/tool:1"
    before = count_asked(log(cluster), "GET", "blobs")
    answers = {(node, user): get(cluster.nodes[node], uri, user) for user in ("ada", "bob") for node in ("n1", "n2")}
    for (_, user), done in answers.items():
        assert done.returncode == 0, done.stderr
        uid = {"ada": 2001, "bob": 2002}[user]
        assert done.stdout.startswith(f"/fsx/containers/.slurm-fsx/caches/{uid}/sha256-"), user
        assert done.stdout == answers["n1", user].stdout
    assert count_asked(log(cluster), "GET", "blobs") - before == 4  # a layer and a configuration for each user


def test_a_prolog_copies_and_the_importer_answers_with_the_copy(cluster: Cluster) -> None:
    node = cluster.nodes["n1"]
    environment = {
        "SLURM_JOB_ID": "77",
        "SLURM_JOB_UID": "2001",
        "SPANK__SLURM_SPANK_OPTION_pyxis_container_image": "pytorch",
    }
    done = node.run(["/opt/slurm-fsx/share/slurm-fsx/prolog.d/50-slurm-fsx"], env=environment)
    assert done.returncode == 0
    copy = f"/scratch/slurm-fsx-images/{CATALOGUED}.sqsh"
    try:
        cluster.wait_until(node.path(copy).exists, "the copy")
        assert get(node, "docker://pytorch").stdout == f"{copy}\n"
        listed = node.run([COMMAND, "containers", "stage", "--list"], "ada")
        assert f"{CATALOGUED}.sqsh" in listed.stdout
    finally:
        done = node.run([COMMAND, "containers", "stage", "--evict"])
    assert done.stdout == f"removed {CATALOGUED}.sqsh\n"
    assert get(node, "docker://pytorch").stdout == f"/fsx/containers/{CATALOGUED}.sqsh\n"


@pytest.fixture(params=["create", "squashfuse"])
def real_pyxis(request: pytest.FixtureRequest, cluster: Cluster) -> Cluster:
    """The cluster with the real Pyxis's line, unpacking images or starting from them straight."""
    pyxis = Pyxis.from_environment()
    if pyxis is None:
        pytest.skip("the real Pyxis is in no registry: name it by SLURM_FSX_TEST_PYXIS=/path/spank_pyxis.so")
    if b"importer=" not in pyxis.plugin.read_bytes():
        pytest.skip("this Pyxis takes no importer: it came with 0.21")
    if request.param == "squashfuse" and b"use_squashfuse" not in pyxis.plugin.read_bytes():
        pytest.skip("this Pyxis cannot start from an image straight: it came with 0.22")
    options = f"container_scope=job importer={IMPORTER}"
    if request.param == "squashfuse":
        options += " use_squashfuse=1"
    cluster.set_plugstack(
        [f"optional {PLUGIN} line=before", f"required {PYXIS} {options}", f"optional {PLUGIN} line=after"]
    )
    for name in cluster.nodes:
        cluster.slurmd(name).stop()
        cluster.start_slurmd(name)
    cluster.wait_until_idle()
    return cluster


@pytest.mark.parametrize(
    ("image", "source"),
    [
        pytest.param("pytorch", "catalogue", id="short-name"),
        pytest.param("nvcr.io#nvidia/pytorch:24.03-py3", "catalogue", id="uri-in-the-catalogue"),
        pytest.param(f"{REGISTRY}#team/tool:1", "registry", id="uri-elsewhere"),
    ],
)
def test_container_image_works_with_the_real_pyxis(real_pyxis: Cluster, image: str, source: str) -> None:
    done = real_pyxis.srun("--nodes=2", "--label", f"--container-image={image}", "cat", "/etc/source")
    assert done.returncode == 0, done.stderr + real_pyxis.report()
    assert sorted(done.stdout.splitlines()) == [f"0: {source}", f"1: {source}"]
    real_pyxis.wait_until_idle()


def test_the_real_pyxis_shows_why_there_is_no_image(real_pyxis: Cluster) -> None:
    done = real_pyxis.srun(f"--container-image={REGISTRY}#team/none:1", "true")
    assert done.returncode != 0
    assert "has no team/none:1" in done.stderr, done.stderr
    real_pyxis.resume(*real_pyxis.nodes)
