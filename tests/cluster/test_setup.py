"""Set-up from a cluster that has nothing of ours to a job in a container, and back."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cluster import Cluster
from lab.images import make_image
from lab.node import Node
from lab.pyxis import PLUGIN as PYXIS
from lab.pyxis import Pyxis, make_data_folders

from .conftest import COMMAND, SYSTEM, make_pyxis

# Of others: daemons' state, logs, sockets.
STRANGE = ("/run/munge", "/run/slurm", "/var/log", "/var/spool", "/var/lib/munge", "/run/lock")
PLACES = ("/etc", "/fsx", "/run", "/var/lib", "/usr/local/bin", "/usr/local/share")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, installation: Path) -> Iterator[Cluster]:
    """Two nodes with slurm.conf as it comes: without prolog and epilog, and without any plugin."""
    nothing: dict[str, str | None] = {"Prolog": None, "Epilog": None, "PrologFlags": None}
    folder = tmp_path_factory.mktemp("setup")
    with Cluster.start(folder, nodes=2, installation=installation, slurm_conf=nothing, system=SYSTEM) as cluster:
        yield cluster


def setup(cluster: Cluster, node: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = cluster.run_on(node, [COMMAND, "setup", *arguments])
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def tree(node: Node) -> dict[str, tuple[object, ...]]:
    """Give what set-up might touch on a machine."""
    found: dict[str, tuple[object, ...]] = {}
    for place in PLACES:
        for folder, folders, files in os.walk(node.path(place)):
            for name in (*folders, *files):
                path = Path(folder, name)
                where = "/" + path.relative_to(node.root).as_posix()
                if where.startswith(STRANGE):
                    continue
                status = path.lstat()
                content: object = None
                if stat.S_ISLNK(status.st_mode):
                    content = os.readlink(path)
                elif stat.S_ISREG(status.st_mode):
                    content = path.read_bytes()
                found[where] = (status.st_mode, status.st_uid, content)
    return found


def test_three_commands_lead_to_a_job_in_a_container_and_one_leads_back(bare: Cluster) -> None:
    before = {node.name: tree(node) for node in bare.machines}

    planned = setup(bare, "head", "head", "--dry-run", "--no-prometheus")
    assert "make /fsx/datasets (1777, root:root)" in planned.stdout
    assert {node.name: tree(node) for node in bare.machines} == before

    setup(bare, "head", "head", "--no-images", "--no-prometheus")
    assert bare.fsx.joinpath("datasets").stat().st_mode & 0o7777 == 0o1777
    setup(bare, "head", "hooks", "--edit-slurm-conf")
    bare.reconfigure()
    for name in bare.nodes:
        done = setup(bare, name, "node", "--wait", "0")
        assert "50-slurm-fsx" not in done.stdout  # what all nodes share is the head's work, and is done
    for node in bare.machines:
        kind = "head" if node.name == "head" else "node"
        again = setup(bare, node.name, kind, *(["--no-images", "--no-prometheus"] if kind == "head" else []))
        assert "changed" not in again.stdout
    assert "changed" not in setup(bare, "head", "hooks").stdout

    make_image(bare.fsx / "containers/nvcr.io_nvidia_pytorch-24.03-py3.sqsh", {"IMAGE": "24.03"})
    bare.wait_until_idle()
    job = bare.sbatch("#!/bin/sh\n#SBATCH --container-name=pytorch\nenv\n")
    assert bare.wait(job) == "COMPLETED", job.output + bare.report()
    assert "IMAGE=24.03" in job.output
    both = bare.srun("--nodes=2", "--container-name=pytorch", "env")
    assert both.stdout.count("IMAGE=24.03") == 2, both.stderr
    assert [line.text for line in bare.syslog if "Traceback" in line.text] == []
    assert bare.nodes["n1"].path("/var/lib/slurm-fsx").exists()

    bare.wait_until_idle()
    for node in (*bare.nodes.values(), bare.head):
        setup(bare, node.name, "uninstall")
    job = bare.sbatch("#!/bin/sh\nsrun --nodes=2 hostname\n", "--nodes=2")
    assert bare.wait(job) == "COMPLETED", job.output + bare.report()
    for node in bare.machines:
        after = tree(node)
        changed = {path for path in {*before[node.name], *after} if before[node.name].get(path) != after.get(path)}
        assert {path for path in changed if not is_of_jobs(path)} == set(), node.name


@pytest.fixture(scope="module")
def with_pyxis(tmp_path_factory: pytest.TempPathFactory, installation: Path) -> Iterator[Cluster]:
    """Two nodes with Pyxis, or what stands in for it, in a folder of plugins that plugstack.conf includes."""
    folder = tmp_path_factory.mktemp("pyxis")
    pyxis = make_pyxis("pyxis" if Pyxis.from_environment() else "standin", folder)
    assert pyxis is not None
    with Cluster.start(
        folder,
        nodes=2,
        installation=installation,
        pyxis=pyxis,
        plugstack=["include /etc/slurm/plugstack.conf.d/*"],
        system=SYSTEM,
    ) as cluster:
        make_data_folders(cluster.machines)
        theirs = cluster.slurm_etc / "plugstack.conf.d"
        theirs.mkdir()
        options = "" if Pyxis.from_environment() else " data=/var/lib/standin mount=/fsx/nccl"
        (theirs / "pyxis.conf").write_text(f"required {PYXIS} container_scope=job{options}\n")
        for name in cluster.nodes:  # slurmd loads Pyxis at its start, and makes its folder in /run then
            cluster.slurmd(name).stop()
            cluster.start_slurmd(name)
        cluster.wait_until_idle()
        yield cluster


def test_with_pyxis_our_lines_stand_around_its_own_and_a_job_gets_its_image(with_pyxis: Cluster) -> None:
    setup(with_pyxis, "head", "head", "--no-images", "--no-prometheus")
    setup(with_pyxis, "head", "hooks")
    for name in with_pyxis.nodes:
        setup(with_pyxis, name, "node", "--wait", "0")
    names = sorted(path.name for path in (with_pyxis.slurm_etc / "plugstack.conf.d").iterdir())
    assert names == ["00-slurm-fsx-before.conf", "pyxis.conf", "zz-slurm-fsx-after.conf"]
    make_image(with_pyxis.fsx / "containers/nvcr.io_nvidia_pytorch-24.03-py3.sqsh", {"IMAGE": "24.03"})
    both = with_pyxis.srun("--nodes=2", "--container-name=pytorch", "env")
    assert both.stdout.count("IMAGE=24.03") == 2, both.stderr + with_pyxis.report()
    with_pyxis.wait_until_idle()
    for node in (*with_pyxis.nodes.values(), with_pyxis.head):
        setup(with_pyxis, node.name, "uninstall")
    assert [path.name for path in (with_pyxis.slurm_etc / "plugstack.conf.d").iterdir()] == ["pyxis.conf"]


def test_a_node_is_set_up_while_the_shared_file_system_hangs_and_told_so(with_pyxis: Cluster) -> None:
    node = with_pyxis.nodes["n1"]
    node.hang_fsx()
    try:
        done = with_pyxis.run_on("n1", [COMMAND, "setup", "node", "--wait", "1"], timeout_s=60)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "/fsx did not answer" in done.stderr
        assert node.path("/etc/profile.d/nccl-shared.sh").exists()
        for option in ("--no-prometheus", "--allow-unmounted"):
            refused = node.run([COMMAND, "setup", "head", option])
            assert refused.returncode == 1
            assert "does not answer" in refused.stderr
    finally:
        node.heal_fsx()
    setup(with_pyxis, "n1", "uninstall")


def test_a_node_waits_for_a_shared_file_system_that_comes_late(with_pyxis: Cluster) -> None:
    node = with_pyxis.nodes["n2"]
    (with_pyxis.fsx / "config").mkdir(exist_ok=True)
    (with_pyxis.fsx / "config/config.yaml").write_text("containers: {unknown_name: reject}\n")
    node.run(["mkdir", "/run/kept"])
    node.run(["mount", "--bind", "/fsx", "/run/kept"])
    gone = node.run(["umount", "--lazy", "/fsx"])
    assert gone.returncode == 0, gone.stderr
    plain = node.run([COMMAND, "setup", "head", "--no-prometheus"])
    assert "nothing is mounted at /fsx" in plain.stderr
    command = [COMMAND, "setup", "node", "--wait", "60"]
    with node.start_process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "waiting for /fsx, 60 s at most\n"
        node.run(["mount", "--bind", "/run/kept", "/fsx"])
        output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, output + errors
    assert "nothing is mounted" not in errors
    assert node.path("/etc/slurm-fsx/config.yaml").exists()
    setup(with_pyxis, "n2", "uninstall")


def is_of_jobs(path: str) -> bool:
    """Whether a path is what jobs have left: images, containers, folders of metrics; uninstall never removes those."""
    below = ("/fsx/containers/nvcr", "/fsx/containers/.slurm-fsx", "/fsx/monitoring/targets/")
    local = ("/run/slurm-fsx", "/var/lib/slurm-fsx/containers", "/var/lib/prometheus")
    folders = ("/fsx/containers", "/fsx/monitoring", "/fsx/monitoring/targets", "/var/lib/slurm-fsx")
    return not path.endswith(".prom") and (path.startswith((*below, *local)) or path in folders)
