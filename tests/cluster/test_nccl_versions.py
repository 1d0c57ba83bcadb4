"""NCCL versions on real Slurm: the documented script, and what a running job has got stays."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lab.cluster import Cluster

    from .conftest import Site

COMMAND = "/opt/slurm-fsx/bin/slurm-fsx"
SCRIPT = "/opt/slurm-fsx/share/slurm-fsx/scripts/install-nccl-shared.sh"
PREFIX = "/fsx/versions-test"
ACTIVE = (
    "import sys; from slurm_fsx_tools.slurm.commands import CommandClient\n"
    "sys.exit(int(sys.argv[1]) not in CommandClient().active_jobs())"
)
SLEEP = "#!/bin/sh\nsleep 300\n"
LIBRARY = "int ncclGetVersion(int *version) { *version = 22807; return 0; }\n"


@pytest.fixture
def cluster(bare_site: Site, tmp_path: Path) -> Iterator[Cluster]:
    """The shared cluster with a folder of this test's own in /fsx, and a wheel in it."""
    cluster = bare_site.cluster
    folder = cluster.fsx / "versions-test"
    folder.mkdir()
    (tmp_path / "nccl.c").write_text(LIBRARY)
    library = tmp_path / "libnccl.so.2"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "nccl.c"], check=True)
    with zipfile.ZipFile(folder / "nccl-2.28.7-py3-none-any.whl", "w") as archive:
        archive.write(library, "nvidia/nccl/lib/libnccl.so.2")
        archive.writestr("nvidia/nccl/include/nccl.h", "/* */\n")
    yield cluster
    cluster.head.run(["scancel", "--full", "--user=ada"])
    cluster.wait_until_idle()
    shutil.rmtree(folder)


def on_head(cluster: Cluster, *command: str) -> str:
    done = cluster.run_on("head", list(command))
    assert done.returncode == 0, done.stderr
    return str(done.stderr)


def test_the_documented_script_installs_and_a_job_keeps_what_it_has_got(cluster: Cluster) -> None:
    root = cluster.fsx / "versions-test/nccl"
    wheel = f"--nccl-source={PREFIX}/nccl-2.28.7-py3-none-any.whl"
    on_head(cluster, "bash", SCRIPT, "v2.28.7-1", "off", PREFIX, "--from=wheel", wheel)
    first = os.path.basename(os.readlink(root / "current"))
    # Installed beside it, as documented, it does the same from then on.
    on_head(cluster, "bash", f"{PREFIX}/nccl/install-nccl-shared.sh", "v2.28.7-1", "off", PREFIX, "--anew", wheel)
    assert os.readlink(root / "current") == f"versions/{first}_2"

    job = cluster.sbatch(SLEEP)
    is_active = ["/opt/slurm-fsx/bin/python3", "-I", "-c", ACTIVE, str(job.id)]
    cluster.wait_until(lambda: cluster.run_on("head", is_active).returncode == 0, "the job running")
    # Where no job that runs has left a mark, nodes may not be able to: nobody knows who uses what.
    refused = cluster.run_on("head", [COMMAND, "nccl", "remove", first, f"--prefix={PREFIX}"])
    assert refused.returncode == 1
    assert "none of them has left a mark" in refused.stderr
    (root / ".uses" / first / str(job.id)).touch()
    refused = cluster.run_on("head", [COMMAND, "nccl", "remove", first, f"--prefix={PREFIX}"])
    assert refused.returncode == 1
    assert f"in use by job {job.id}" in refused.stderr
    assert (root / "versions" / first / "lib/libnccl.so.2").exists()

    # A switch forgets the marks of jobs that have ended, and of no other.
    (root / ".uses" / first / "4000000").touch()
    on_head(cluster, COMMAND, "nccl", "use", f"{first}_2", f"--prefix={PREFIX}")
    assert os.listdir(root / ".uses" / first) == [str(job.id)]

    on_head(cluster, "scancel", str(job.id))
    cluster.wait_until_idle()
    on_head(cluster, COMMAND, "nccl", "remove", first, f"--prefix={PREFIX}")
    assert not (root / "versions" / first).exists()


def test_an_ordinary_user_changes_nothing(cluster: Cluster) -> None:
    root = cluster.fsx / "versions-test/nccl"
    wheel = f"--nccl-source={PREFIX}/nccl-2.28.7-py3-none-any.whl"
    on_head(cluster, "bash", SCRIPT, "v2.28.7-1", "off", PREFIX, "--from=wheel", wheel)
    current = os.readlink(root / "current")
    for command in (["use", os.path.basename(current)], ["remove", "--force", "x"], ["install", "--anew", wheel]):
        done = cluster.head.run([COMMAND, "nccl", *command, f"--prefix={PREFIX}"], user="ada")
        assert done.returncode != 0
        assert "run this by sudo" in done.stderr
    assert os.readlink(root / "current") == current


def test_slurm_is_asked_for_the_gpus_of_a_partition(cluster: Cluster) -> None:
    ask = "from slurm_fsx_tools.slurm.commands import CommandClient; print(CommandClient().gpu_types())"
    done = cluster.run_on("head", ["/opt/slurm-fsx/bin/python3", "-I", "-c", ask])
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"  # the lab's GPUs have no types
    unknown = cluster.run_on("head", [COMMAND, "nccl", "install", "--dry-run", "--partition=none"])
    assert unknown.returncode == 1
    assert "Slurm has no partition 'none'" in unknown.stderr
