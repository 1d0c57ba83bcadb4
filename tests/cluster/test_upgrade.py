"""An upgrade while jobs start: each job gets one version, whole, and none fails."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from archive.__main__ import pack, write_build_id
from lab.cluster import HOME, Cluster
from lab.nccl import install_nccl
from slurm_fsx_tools.provision.archives import PACKAGES, read_id, sum_file, write_manifest

ROUNDS = 6
NODES = ("n1", "n2")

# A prolog takes its time here, and imports a module late, as it would when a job is the first to need it.
SITE = """
import os, sys, time
from slurm_fsx_tools import hookimpl

@hookimpl
def slurm_fsx_job_env(env):
    time.sleep(0.4)
    import slurm_fsx_tools.node_sets, slurm_fsx_tools.version
    files = [module.__file__ for name, module in sys.modules.items() if name.startswith("slurm_fsx_tools")]
    folders = sorted({file.split("/lib/python3")[0] for file in files if file})
    env.set("RAN_FROM", ",".join(folders))
    env.set("RAN_BUILD", slurm_fsx_tools.version.VERSION + "-" + slurm_fsx_tools.version.build())
"""


class Releases:
    """Two archives in the cluster's /fsx, and their ids."""

    def __init__(self, folder: Path, checkout: Path, fsx: Path) -> None:
        subprocess.run([sys.executable, "-m", "archive", folder], cwd=checkout, check=True, capture_output=True)
        made = next(folder.glob("*.tar.gz"))
        subprocess.run(["tar", "-xzf", made, "-C", folder], check=True)
        root = folder / made.name.replace(".tar.gz", "")
        self.ids: list[str] = []
        for release in ("0.1.0", "0.2.0"):
            package = root / PACKAGES / "slurm_fsx_tools"
            module = package / "version.py"
            module.write_text(module.read_text().replace('"0.1.0"', f'"{release}"'))
            (package / "build-id").unlink()
            write_build_id(root)
            write_manifest(str(root))
            archive = pack(root, fsx / f"{release}.tar.gz")
            Path(f"{archive}.sha256").write_text(f"{sum_file(str(archive))}  {archive.name}\n")
            self.ids.append(read_id(str(root)))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, checkout: Path, installation: Path) -> Iterator[Cluster]:
    """Two nodes that have nothing of ours but the scripts that Slurm runs."""
    share = installation / "share/slurm-fsx"
    with Cluster.start(
        tmp_path_factory.mktemp("upgrade"),
        nodes=len(NODES),
        plugstack=[f"optional {HOME}/lib/slurm/spank_slurm_fsx.so runtime=bwrap"],
        prolog=[share / "prolog.d/50-slurm-fsx"],
        epilog=[share / "epilog.d/50-slurm-fsx"],
    ) as cluster:
        install_nccl(cluster.fsx)
        cluster.write_on_all("/etc/slurm-fsx/plugins.d/ran_from.py", SITE)
        yield cluster


@pytest.fixture(scope="module")
def releases(cluster: Cluster, checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Releases:
    """The releases; the first one is on every machine, put there as on a bare one."""
    found = Releases(tmp_path_factory.mktemp("releases"), checkout, cluster.fsx)
    bare = "cd $(mktemp -d -p /root) && tar -xzf /fsx/0.1.0.tar.gz && sh slurm-fsx-*/install.sh"
    for name in ("head", *NODES):
        done = cluster.run_on(name, ["sh", "-c", bare])
        assert done.returncode == 0, done.stderr
        assert done.stderr.startswith(f"{HOME} is {found.ids[0]}\n")
    return found


def test_a_bare_machine_gets_everything_from_the_archive(cluster: Cluster, releases: Releases) -> None:
    cluster.wait_until_idle()
    for name in ("head", *NODES):
        shown = cluster.run_on(name, [f"{HOME}/bin/slurm-fsx", "--version"], "ada").stdout
        assert shown == "slurm-fsx {} (build {})\n".format(*releases.ids[0].split("-"))
    done = cluster.srun("--container-name=nothing-like-it", "true")
    # The SPANK plugin knows the option, and has asked the command.
    assert "slurm-fsx: the containers folder /fsx/containers cannot be listed" in done.stderr


def test_no_job_fails_or_mixes_versions_while_nodes_are_upgraded(cluster: Cluster, releases: Releases) -> None:
    script = "#!/bin/sh\nsrun sh -c 'echo \"$RAN_BUILD $RAN_FROM $NCCL_DEBUG\"'\n"
    jobs = []
    for number in range(ROUNDS):
        jobs += [cluster.sbatch(script, "--nodes=2", "--ntasks-per-node=1", "--overcommit") for _ in range(2)]
        for name in NODES:
            if number % 2:
                command = [f"{HOME}/bin/slurm-fsx", "setup", "rollback"]
            else:
                command = [f"{HOME}/bin/slurm-fsx", "setup", "upgrade", "/fsx/0.2.0.tar.gz"]
            done = cluster.run_on(name, command)
            assert done.returncode == 0, done.stderr
        # This one starts after the switch; those above, at any moment of it.
        jobs.append(cluster.sbatch(script, "--nodes=2", "--ntasks-per-node=1", "--overcommit"))
        cluster.wait(jobs[-1])
    ran = []
    for job in jobs:
        assert cluster.wait(job) == "COMPLETED", cluster.report()
        for line in job.output.splitlines():
            build, folder, nccl = line.split(" ")
            assert folder == f"{HOME}-versions/{build}"
            assert nccl, "the job has no NCCL environment"
            ran.append(build)
    assert len(ran) == 2 * len(jobs)
    assert set(ran) == set(releases.ids)
    assert set(cluster.node_states().values()) == {"idle"}
