"""A cluster without Pyxis and without the SPANK plugin: the task prolog does its work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lab.cluster import Cluster

if TYPE_CHECKING:
    import pytest


def test_the_task_prolog_gives_every_task_the_environment(
    tmp_path_factory: pytest.TempPathFactory, installation: Path, system: Path
) -> None:
    share = installation / "share/slurm-fsx"
    with Cluster.start(
        tmp_path_factory.mktemp("task-prolog"),
        nodes=2,
        installation=installation,
        prolog=[share / "prolog.d/50-slurm-fsx"],
        epilog=[share / "epilog.d/50-slurm-fsx"],
        slurm_conf={"TaskProlog": "/opt/slurm-fsx/share/slurm-fsx/task_prolog.d/slurm-fsx"},
        system=system,
    ) as cluster:
        (cluster.fsx / "nccl/lib").mkdir(parents=True)
        (cluster.fsx / "nccl/setup-nccl-env.sh").write_text("export SITE_NCCL_EXTRA='a b'\n")
        (cluster.fsx / "nccl/.nccl_version").write_text("2.28.7\n")
        script = "#!/bin/sh\nexport NCCL_DEBUG=WARN LD_LIBRARY_PATH=/mine\nsrun env\n"
        job = cluster.sbatch(script, "--nodes=2", "--ntasks-per-node=2")
        assert cluster.wait(job) == "COMPLETED", job.output
        lines = job.output.splitlines()
        for line in (
            "NCCL_DEBUG=WARN",
            "NCCL_ALGO=Ring",
            "NCCL_VERSION=2.28.7",
            "SITE_NCCL_EXTRA=a b",
            "LD_LIBRARY_PATH=/fsx/nccl/lib:/usr/local/lib:/mine",
        ):
            assert lines.count(line) == 4, line
