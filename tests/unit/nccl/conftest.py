"""A shared file system with an NCCL on it, and a node that looks at it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.job import Job, Node
from slurm_fsx_tools.jobenv import JobEnv, apply_operations
from slurm_fsx_tools.nccl.manifest import Manifest
from slurm_fsx_tools.nccl.plugin import slurm_fsx_job_env
from slurm_fsx_tools.shared_fs import SharedFs

JOB = Job(id="7", uid=1000, user="ada", partition="gpu", node=Node("n1"))


class Site:
    """A shared file system of a test's own, with an installation, and one node."""

    def __init__(self, folder: Path) -> None:
        self.fsx = folder / "fsx"
        self.nccl = self.fsx / "nccl"
        self.run_dir = folder / "run"
        self.script = self.nccl / "setup-nccl-env.sh"
        self.version = self.nccl / ".nccl_version"
        self.sourced = folder / "sourced"
        self.values: dict[str, object] = {"fsx.root": str(self.fsx), "runtime_dir": str(self.run_dir)}
        (self.nccl / "lib").mkdir(parents=True)
        self.run_dir.mkdir()
        self.sourced.touch()
        self.sourced.chmod(0o666)
        self.install("")
        self.version.write_text("v2.28.7-1\n")

    def install(self, script: str) -> None:
        """Write a setup script that leaves a trace when it is sourced."""
        self.script.write_text(f"echo sourced >>{self.sourced}\n{script}\n")
        self.script.chmod(0o644)

    def install_version(self, version: str, **fields: object) -> Path:
        """Put a version of ours beside the others; give its folder."""
        folder = self.nccl / "versions" / version
        (folder / "lib").mkdir(parents=True)
        known: dict[str, object] = {
            **dict.fromkeys(("ofi", "ofi_folder", "tests", "cuda", "libfabric", "mpi", "machine"), ""),
            **{
                "id": version,
                "nccl": version.partition("_")[0],
                "architectures": [],
                "sources": {},
                "installed_s": 0.0,
            },
        }
        (folder / "manifest.json").write_bytes(Manifest(**{**known, **fields}).format())  # type: ignore[arg-type]
        return folder

    def use_version(self, version: str) -> None:
        """Switch to a version."""
        new = self.nccl / ".current"
        new.symlink_to(f"versions/{version}")
        new.rename(self.nccl / "current")

    def users_of(self, version: str) -> list[str]:
        """Name the jobs that are marked as users of a version."""
        folder = self.nccl / ".uses" / version
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    @property
    def times_sourced(self) -> int:
        return len(self.sourced.read_text().splitlines())

    @property
    def config(self) -> Config:
        return Config(self.values, path="/etc/slurm-fsx/config.yaml")

    @property
    def shared_fs(self) -> SharedFs:
        return SharedFs(str(self.fsx), 2.0)

    def start(self, nccl: str = "", job_id: str = JOB.id) -> JobEnv:
        """Give what a prolog writes for a job."""
        env = JobEnv()
        slurm_fsx_job_env(JOB._replace(nccl=nccl, id=job_id), env, self.config, self.shared_fs)
        return env

    def task(self, **user: str) -> dict[str, str]:
        """Give the environment of a task outside of containers."""
        return apply_operations(self.start(), user)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the user nobody can read: pytest lets only its own user into its folders."""
    old = os.umask(0o022)
    with tempfile.TemporaryDirectory(prefix="slurm-fsx-nccl-", dir="/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)
    os.umask(old)


@pytest.fixture
def site(folder: Path) -> Site:
    return Site(folder)
