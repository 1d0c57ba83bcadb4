"""A shared file system with two images, and the commands about containers on it."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from slurm_fsx_tools.cli.containers import containers
from slurm_fsx_tools.errors import SlurmFsxError

IMAGE = b"hsqs" + bytes(24) + b"\4\0" + bytes(10) + b"\x60" + bytes(55)
OLD = "nvcr.io_nvidia_pytorch-24.01-py3"
NEW = "nvcr.io_nvidia_pytorch-24.03-py3"


class Done(NamedTuple):
    """What a command did; click's own runner mixes both streams in its older releases."""

    exit_code: int
    stdout: str
    stderr: str
    exception: SlurmFsxError | None = None


class Cluster:
    """A shared file system and a configuration, as the commands see them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "fsx/containers"
        self.plugins = folder / "plugins.d"
        self.config = folder / "config.yaml"
        self.folder.mkdir(parents=True)
        self.plugins.mkdir()
        self.configure({})

    def configure(self, containers: dict[str, object]) -> None:
        self.config.write_text(
            yaml.dump(
                {
                    "fsx": {"root": str(self.folder.parent)},
                    "runtime_dir": str(self.config.parent / "run"),
                    "containers": containers,
                    "prolog": {"plugins_dir": str(self.plugins)},
                }
            )
        )

    def add(self, *stems: str, content: bytes = IMAGE) -> None:
        for stem in stems:
            (self.folder / f"{stem}.sqsh").write_bytes(content)

    def path(self, stem: str) -> str:
        return f"{self.folder}/{stem}.sqsh"

    def run(self, *arguments: str) -> Done:
        out, err = io.StringIO(), io.StringIO()
        code, exception = 0, None
        with redirect_stdout(out), redirect_stderr(err):
            try:
                containers.main(list(arguments), standalone_mode=False)
            except SystemExit as end:
                code = int(end.code or 0)
            except SlurmFsxError as error:
                code, exception = error.exit_code, error
        return Done(code, out.getvalue(), err.getvalue(), exception)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster(tmp_path)
    monkeypatch.setenv("SLURM_FSX_CONFIG", str(cluster.config))
    cluster.add(OLD, NEW)
    return cluster
