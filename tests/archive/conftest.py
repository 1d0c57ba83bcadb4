"""The archive that `make dist` makes, and another version made from it, once for all tests here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from archive.__main__ import pack, write_build_id
from slurm_fsx_tools.provision.archives import PACKAGES, read_id, sum_file, write_manifest


class Unpacked:
    """A folder that an archive holds, and what is done with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def id(self) -> str:
        return read_id(str(self.folder))

    def install(self, prefix: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run its installer to the end."""
        return subprocess.run(self.command(prefix, *arguments), capture_output=True, text=True, check=False)

    def command(self, prefix: Path, *arguments: str) -> list[str]:
        return ["/bin/sh", str(self.folder / "install.sh"), f"--prefix={prefix}", *arguments]

    def copy(self, folder: Path, release: str = "") -> Unpacked:
        """Copy it, as another release if one is given, with ids and sums that are right."""
        shutil.copytree(self.folder, folder / self.folder.name)
        other = Unpacked(folder / self.folder.name)
        if release:
            module = other.folder / PACKAGES / "slurm_fsx_tools/version.py"
            module.write_text(module.read_text().replace('VERSION = "0.1.0"', f'VERSION = "{release}"'))
            other.seal()
        return other

    def seal(self) -> None:
        """Write build id and manifest anew."""
        (self.folder / PACKAGES / "slurm_fsx_tools/build-id").unlink()
        write_build_id(self.folder)
        write_manifest(str(self.folder))

    def pack(self, folder: Path) -> Path:
        """Make an archive of it, with its sum beside it."""
        archive = pack(self.folder, folder / f"{self.id}.tar.gz")
        Path(f"{archive}.sha256").write_text(f"{sum_file(str(archive))}  {archive.name}\n")
        return archive


class Copy(NamedTuple):
    """A copy of a folder with installations, and how long the last of them took."""

    folder: Path
    took_s: float


def run(prefix: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command that is installed behind a link."""
    return subprocess.run([prefix / "bin/slurm-fsx", *arguments], capture_output=True, text=True, check=False)


def running(prefix: Path) -> str:
    """Give the version that answers behind a link."""
    return run(prefix, "--version").stdout.strip()


@pytest.fixture(scope="session", name="run")
def run_fixture() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command behind a link."""
    return run


@pytest.fixture(scope="session", name="running")
def running_fixture() -> Callable[[Path], str]:
    """Gives the version that answers behind a link."""
    return running


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory, checkout: Path) -> Path:
    """The folder that `make dist` fills."""
    if os.geteuid() != 0:
        pytest.skip("versions belong to root: run as root")
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "archive", folder], cwd=checkout, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def archive(dist: Path) -> Path:
    """The archive of the checkout."""
    return next(dist.glob("*.tar.gz"))


@pytest.fixture(scope="session")
def first(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Unpacked:
    """The archive of the checkout, unpacked."""
    folder = tmp_path_factory.mktemp("first")
    folder.chmod(0o755)
    subprocess.run(["tar", "-xzf", archive, "-C", folder], check=True)
    return Unpacked(next(folder.iterdir()))


@pytest.fixture(scope="session")
def second(first: Unpacked, tmp_path_factory: pytest.TempPathFactory) -> Unpacked:
    """A later release."""
    return first.copy(tmp_path_factory.mktemp("second"), "0.2.0")


@pytest.fixture(scope="session")
def opt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that all tests install into: its path stands in what is installed, and copies are put back there."""
    folder = tmp_path_factory.mktemp("installed")
    folder.chmod(0o755)
    return folder / "opt"


@pytest.fixture
def prefix(opt: Path) -> Path:
    """Where the link is to be, with nothing there."""
    return empty(opt)


@pytest.fixture(scope="session")
def with_first(opt: Path, first: Unpacked) -> Copy:
    """What the installation of `first` leaves."""
    begun = time.monotonic()
    done = first.install(empty(opt))
    took_s = time.monotonic() - begun
    assert done.returncode == 0, done.stderr
    return Copy(opt.rename(opt.with_name("first")), took_s)


@pytest.fixture(scope="session")
def with_both(opt: Path, with_first: Copy, second: Unpacked) -> Copy:
    """What the installation of `second` over `first` leaves."""
    begun = time.monotonic()
    done = second.install(restore(with_first, opt))
    took_s = time.monotonic() - begun
    assert done.returncode == 0, done.stderr
    return Copy(opt.rename(opt.with_name("both")), took_s)


@pytest.fixture
def installed(opt: Path, with_first: Copy) -> Path:
    """The prefix, where `first` is installed."""
    return restore(with_first, opt)


@pytest.fixture
def upgraded(opt: Path, with_both: Copy) -> Path:
    """The prefix, where `second` is installed over `first`."""
    return restore(with_both, opt)


def empty(opt: Path) -> Path:
    shutil.rmtree(opt, ignore_errors=True)
    opt.mkdir()
    return opt / "slurm-fsx"


def restore(copy: Copy, opt: Path) -> Path:
    """Put it back by hard links, which cost next to nothing: a test replaces files, and never writes into one."""
    shutil.rmtree(opt, ignore_errors=True)
    subprocess.run(["cp", "-al", copy.folder, opt], check=True)
    return opt / "slurm-fsx"
