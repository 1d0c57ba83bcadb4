"""Every file of examples/ does what it says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.cluster import Cluster
from lab.images import make_image
from lab.nccl import install_nccl

if TYPE_CHECKING:
    from .conftest import Site

COMMAND = "/opt/slurm-fsx/bin/slurm-fsx"


@pytest.fixture(scope="session")
def examples(checkout: Path) -> Path:
    """The folder of examples."""
    return checkout / "examples"


def run(site: Site, script: Path) -> str:
    job = site.cluster.sbatch(script.read_text())
    assert site.cluster.wait(job) == "COMPLETED", job.output
    return job.output


def test_every_example_is_tried(examples: Path, checkout: Path) -> None:
    files = (Path(__file__), checkout / "tests/archive/test_parallelcluster.py")
    tried = "".join(file.read_text() for file in files)
    assert [path.name for path in examples.rglob("*") if path.is_file() and path.name not in tried] == []


def test_the_script_in_a_container_shows_the_nccl_environment(bare_site: Site, examples: Path) -> None:
    output = run(bare_site, examples / "pytorch.sbatch")
    assert 'PRETTY_NAME="nvcr.io_nvidia_pytorch-24.03-py3"' in output
    assert "SLURM_FSX_CONTAINER_IMAGE=/fsx/containers/nvcr.io_nvidia_pytorch-24.03-py3.sqsh" in output
    assert "NCCL_DEBUG=INFO" in output
    assert "LD_LIBRARY_PATH=/fsx/nccl/lib:/usr/local/lib" in output


def test_the_host_script_runs_a_step_on_the_host_and_one_in_a_pinned_image(bare_site: Site, examples: Path) -> None:
    output = run(bare_site, examples / "host-script.sbatch")
    assert output.count('PRETTY_NAME="nvcr.io_nvidia_pytorch-24.01-py3"') == 2
    assert {"n1", "n2"} <= set(output.splitlines())


def test_the_configuration_is_fine_and_its_alias_works(bare_site: Site, examples: Path) -> None:
    bare_site.configure((examples / "config.yaml").read_text())
    try:
        assert bare_site.srun("--container-name=training")[0]["IMAGE"] == "nvcr.io_nvidia_pytorch-24.01-py3"
        assert bare_site.cluster.submit("#!/bin/sh\n", "--container-name=trainnig").returncode != 0
    finally:
        bare_site.configure("")


def lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("site", ["standin"], indirect=True)
def test_the_plugstack_around_pyxis_runs_a_name_in_its_image(site: Site, examples: Path) -> None:
    before, pyxis, after = lines(examples / "plugstack.conf")
    conf = site.cluster.slurm_etc / "plugstack.conf"
    usual = conf.read_text().splitlines()
    # The stand-in is told where to unpack and what to mount; Pyxis asks enroot's own configuration.
    site.cluster.set_plugstack([before, f"{pyxis} data=/var/lib/standin mount=/fsx/nccl", after])
    try:
        [task] = site.srun("--container-name=pytorch")
    finally:
        site.cluster.set_plugstack(usual)
    assert task["IMAGE"] == "nvcr.io_nvidia_pytorch-24.03-py3"
    assert task["LD_LIBRARY_PATH"].startswith("/fsx/nccl/lib:/usr/local/lib")


def test_slurm_conf_plugstack_and_site_plugin_together(
    tmp_path_factory: pytest.TempPathFactory, installation: Path, system: Path, examples: Path
) -> None:
    """A cluster set up from slurm.conf, plugstack-without-pyxis.conf and site_plugin.py alone."""
    share = installation / "share/slurm-fsx"
    settings = dict(line.split("=", 1) for line in lines(examples / "slurm.conf"))
    settings["PartitionName"] = "production Nodes=ALL"
    with Cluster.start(
        tmp_path_factory.mktemp("examples"),
        nodes=1,
        installation=installation,
        plugstack=lines(examples / "plugstack-without-pyxis.conf"),
        prolog=[share / "prolog.d/50-slurm-fsx"],
        epilog=[share / "epilog.d/50-slurm-fsx"],
        slurm_conf=settings,
        system=system,
    ) as cluster:
        install_nccl(cluster.fsx)
        make_image(cluster.fsx / "containers/mine.sqsh")
        cluster.write_on_all("/etc/slurm-fsx/plugins.d/site_plugin.py", (examples / "site_plugin.py").read_text())
        listed = cluster.run_on("n1", [COMMAND, "plugins", "list"])
        assert "site_plugin" in listed.stdout
        assert listed.returncode == 0, listed.stderr

        assert "NCCL_DEBUG=INFO" in cluster.srun("--container-name=mine", "env").stdout
        assert "NCCL_DEBUG=WARN" in cluster.srun("--partition=production", "env").stdout
        own = cluster.srun("--partition=production", "env", env={"NCCL_DEBUG": "TRACE"}).stdout
        assert "NCCL_DEBUG=TRACE" in own

        full = cluster.run_on("n1", ["sh", "-c", "mkdir /scratch && mount -t tmpfs -o size=1m tmpfs /scratch"])
        assert full.returncode == 0, full.stderr
        job = cluster.sbatch("#!/bin/sh\ntrue\n")
        cluster.wait_until(lambda: "drain" in cluster.node_states()["n1"], "n1 drained")
        assert any("/scratch has 0 GiB free" in line.text for line in cluster.syslog)

        # The requeued job waits for the node, and runs once somebody has looked.
        assert cluster.run_on("n1", ["umount", "/scratch"]).returncode == 0
        assert cluster.run_on("n1", ["rmdir", "/scratch"]).returncode == 0
        cluster.resume("n1")
        cluster.cancel(job)
        assert cluster.srun("true").returncode == 0


def test_the_enroot_fragment_is_one_mount_that_may_be_missing(examples: Path) -> None:
    [line] = lines(examples / "enroot-mounts.fstab")
    source, target, kind, options, *_ = line.split()
    assert (source, target, kind) == ("/fsx/nccl", "/fsx/nccl", "none")
    assert {"bind", "ro", "nosuid", "nodev", "nofail", "x-create=dir"} == set(options.split(","))
