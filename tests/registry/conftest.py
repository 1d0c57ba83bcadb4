"""A registry with images, and folders of images to import into."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from lab.registry import FaultyProxy, Image, Registry, busybox_layer, random_layer
from slurm_fsx_tools.containers.imports.importing import import_image
from slurm_fsx_tools.containers.imports.options import Imported, ImportOptions, Retries
from slurm_fsx_tools.containers.imports.state import Progress
from slurm_fsx_tools.containers.names import ImageName
from slurm_fsx_tools.containers.store import Store

PROXIES = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
CONFIG = {
    "Env": ["PATH=/usr/bin:/bin", "GREETING=hello world"],
    "WorkingDir": "/app/here",
    "Entrypoint": ["/bin/sh", "-c"],
    "Cmd": ["echo $GREETING"],
}
SIZE_BYTES = 3 << 20


class Lab(NamedTuple):
    """The registry, and what was pushed."""

    registry: Registry
    digests: dict[str, str]


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    base, data = busybox_layer(), random_layer("data", SIZE_BYTES)
    with Registry(tmp_path_factory.mktemp("registry")) as registry:
        digests = {
            "small": registry.push("lab/small:1", Image([base, data], CONFIG)),
            "other": registry.push("lab/other:1", Image([base, random_layer("more", 1000)], CONFIG)),
            "docker": registry.push("lab/docker:1", Image([base, data], CONFIG), docker_format=True),
            "multi": registry.push(
                "lab/multi:1",
                Image([base, random_layer("amd64", 1000)], CONFIG),
                Image([base, random_layer("arm64", 1000)], CONFIG, "arm64"),
            ),
        }
        yield Lab(registry, digests)


@pytest.fixture
def proxy(lab: Lab) -> Iterator[FaultyProxy]:
    with FaultyProxy(lab.registry).running() as proxy:
        yield proxy


class Importing:
    """A folder of images, and imports into it."""

    def __init__(self, folder: Path) -> None:
        self.fsx = folder / "fsx"
        self.store = Store(str(self.fsx / "containers"))
        Path(self.store.folder).mkdir(parents=True)
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        self.config = folder / "config.yaml"
        self.credentials = folder / ".credentials"
        self.told: list[Progress] = []
        self.config.write_text(
            yaml.dump(
                {
                    "fsx": {"root": str(self.fsx)},
                    "runtime_dir": str(folder / "run"),
                    "containers": {"architecture": "amd64", "scratch": str(self.scratch)},
                    "prolog": {"plugins_dir": str(folder / "plugins.d")},
                }
            )
        )

    def options(self, **changes: Any) -> ImportOptions:
        given = {
            "architecture": "amd64",
            "importer": "skopeo",
            "insecure_http": True,
            "credentials_file": str(self.credentials),
            "scratch": str(self.scratch),
            "retries": Retries(attempts=4, first_wait_s=0.05, random=lambda: 0.5),
            "processors": 1,
            **changes,
        }
        return ImportOptions(**given)

    def bring(self, uri: str, **changes: Any) -> Imported:
        return import_image(ImageName.parse(uri), self.store, self.options(**changes), self.told.append)

    def path(self, uri: str) -> Path:
        return Path(self.store.path(ImageName.parse(uri).file_name))

    def images(self) -> list[str]:
        return sorted(file.name for file in Path(self.store.folder).glob("*.sqsh"))

    def leftovers(self) -> list[str]:
        """What should be gone when no import is under way."""
        return [*os.listdir(self.store.staging), *os.listdir(self.scratch)]

    @property
    def environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if name not in PROXIES}
        return {**clean, "SLURM_FSX_CONFIG": str(self.config), "ENROOT_CONFIG_PATH": str(self.credentials.parent)}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "slurm_fsx_tools", "containers", *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), env=self.environment, capture_output=True, text=True, timeout=120
        )


@pytest.fixture
def importing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Importing:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    return Importing(tmp_path)
