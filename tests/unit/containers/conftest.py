"""A containers folder of a test's own, with images that are as small as they can be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.containers.catalogue import Catalogue

BYTES_USED = 96


def superblock(bytes_used: int = BYTES_USED, version: int = 4) -> bytes:
    """Give the first bytes of a squashfs image."""
    block = bytearray(96)
    block[:4] = b"hsqs"
    block[28:30] = version.to_bytes(2, "little")
    block[40:48] = bytes_used.to_bytes(8, "little")
    return bytes(block)


class Site:
    """A shared file system with a containers folder."""

    def __init__(self, fsx: Path) -> None:
        self.fsx = fsx
        self.folder = fsx / "containers"
        self.folder.mkdir(parents=True)
        self.values: dict[str, object] = {"fsx.root": str(fsx)}

    @property
    def config(self) -> Config:
        return Config(self.values)

    def add(self, *stems: str, content: bytes | None = None) -> None:
        """Put images into the folder."""
        for stem in stems:
            (self.folder / f"{stem}.sqsh").write_bytes(superblock() if content is None else content)
            (self.folder / f"{stem}.sqsh").chmod(0o644)

    def settle(self, modified_ns: int = 1_700_000_000_123_456_789) -> int:
        """Make the folder as if it had not been changed for long."""
        os.utime(self.folder, ns=(modified_ns, modified_ns))
        return modified_ns

    def catalogue(self) -> Catalogue:
        return Catalogue(str(self.folder))

    def scan(self) -> Catalogue:
        return Catalogue.scan(str(self.folder))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "fsx")


@pytest.fixture
def make_site() -> type[Site]:
    """For tests that need many: hypothesis makes one for each example."""
    return Site


@pytest.fixture
def make_superblock() -> object:
    return superblock
