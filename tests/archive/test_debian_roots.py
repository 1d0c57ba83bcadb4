"""From a plain Debian with Slurm's packages to a job in a container, by the archive and three commands, and back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lab.cluster import HOME, Cluster
from lab.debian import make_root, slurm_include
from lab.errors import LabError
from lab.images import make_image
from lab.nccl import install_nccl

COMMAND = f"{HOME}/bin/slurm-fsx"


def run(cluster: Cluster, name: str, *command: str) -> str:
    done = cluster.run_on(name, command, timeout_s=120)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("suite", "python"), [("bookworm", "3.11"), ("trixie", "3.13")])
def test_a_plain_debian_gets_from_nothing_to_a_job_in_its_container_and_back(
    suite: str, python: str, tmp_path: Path, checkout: Path, needs_root: None
) -> None:
    try:
        root = make_root(suite, tmp_path / suite)
    except LabError as error:
        pytest.skip(str(error))
    include = slurm_include(root, tmp_path / "include")
    fsx = tmp_path / "fsx"
    subprocess.run([sys.executable, "-m", "archive", fsx, include], cwd=checkout, check=True, capture_output=True)
    archive = next(fsx.glob("*.tar.gz"))
    bare = f"cd $(mktemp -d -p /root) && tar -xzf /fsx/{archive.name} && sh slurm-fsx-*/install.sh"
    nothing: dict[str, str | None] = {"Prolog": None, "Epilog": None, "PrologFlags": None}
    with Cluster.start(tmp_path / "cluster", nodes=1, slurm_conf=nothing, system=root, fsx=fsx) as cluster:
        for name in ("head", "n1"):
            run(cluster, name, "sh", "-c", bare)
            assert run(cluster, name, "readlink", f"{HOME}/bin/python3") == f"/usr/bin/python{python}\n"
        planned = run(cluster, "head", COMMAND, "setup", "head", "--dry-run", "--no-prometheus")
        assert "/fsx/datasets" in planned
        assert not (fsx / "datasets").exists()
        run(cluster, "head", COMMAND, "setup", "head", "--no-images", "--no-prometheus")
        run(cluster, "head", COMMAND, "setup", "hooks", "--edit-slurm-conf")
        cluster.reconfigure()
        run(cluster, "n1", COMMAND, "setup", "node", "--wait", "0")
        install_nccl(cluster.fsx)
        make_image(fsx / "containers/nvcr.io_nvidia_pytorch-24.03-py3.sqsh", {"IMAGE": "24.03"})
        cluster.wait_until_idle()
        job = cluster.sbatch("#!/bin/sh\n#SBATCH --container-name=pytorch\nenv\n")
        assert cluster.wait(job) == "COMPLETED", job.output + cluster.report()
        assert "IMAGE=24.03\n" in job.output
        assert "NCCL_DEBUG=" in job.output
        on_host = cluster.srun("env")
        assert "NCCL_DEBUG=" in on_host.stdout, on_host.stderr
        assert "IMAGE=" not in on_host.stdout
        # A virtual machine's clock may be its host's, and this node exports nothing.
        looked = cluster.run_on("n1", [COMMAND, "doctor", "--json"])
        problems = [
            found["finding"] for found in json.loads(looked.stdout)["findings"] if found["severity"] == "problem"
        ]
        assert problems == []
        run(cluster, "n1", COMMAND, "setup", "uninstall")
        run(cluster, "head", COMMAND, "setup", "uninstall")
        cluster.reconfigure()
        assert "NCCL_DEBUG=" not in cluster.srun("env").stdout
