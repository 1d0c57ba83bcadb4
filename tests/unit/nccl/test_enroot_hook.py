"""share/enroot/hooks.d/60-slurm-fsx-nccl.sh, as enroot calls it; tests/cluster/test_nccl.py has it in a real enroot."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[3] / "share/enroot/hooks.d/60-slurm-fsx-nccl.sh"


class Container:
    """What enroot gives to a hook: a root folder and a file with the environment."""

    def __init__(self, folder: Path) -> None:
        self.nccl = folder / "fsx/nccl"
        self.root = folder / "root"
        self.environ = folder / "environ"
        self._hook = folder / "hook.sh"
        self._hook.write_text(SOURCE.read_text().replace("/fsx/nccl", str(self.nccl)))
        (self.root / "usr/lib").mkdir(parents=True)
        (self.nccl / "versions/2.28.7-1/lib").mkdir(parents=True)
        (self.nccl / "current").symlink_to("versions/2.28.7-1")
        self.environ.write_text("HOME=/root\n")
        self.library = f"{self.nccl}/versions/2.28.7-1/lib"

    def start(self, shell: str = "sh", **environment: str) -> str:
        """Run the hook; give the last LD_LIBRARY_PATH, which is the one that counts."""
        given = {"ENROOT_ROOTFS": str(self.root), "ENROOT_ENVIRON": str(self.environ), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(
            [*shell.split(), str(self._hook)], env={**given, **environment}, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        lines = [line for line in self.environ.read_text().splitlines() if line.startswith("LD_LIBRARY_PATH=")]
        return lines[-1].partition("=")[2] if lines else ""


@pytest.fixture
def container(tmp_path: Path) -> Container:
    return Container(tmp_path)


@pytest.mark.parametrize("shell", ["dash -eu", "bash -eu", "busybox sh"])
def test_a_container_finds_the_version_of_now_before_its_own_folders(container: Container, shell: str) -> None:
    container.environ.write_text("LD_LIBRARY_PATH=/old\nHOME=/root\nLD_LIBRARY_PATH=/mine:/more\n")
    assert container.start(shell) == f"{container.library}:/mine:/more"
    assert container.start(shell) == f"{container.library}:/mine:/more"


def test_a_container_without_a_list_gets_one_without_an_empty_entry(container: Container) -> None:
    assert container.start() == container.library


def test_an_installation_of_another_maker_is_found_too(container: Container) -> None:
    (container.nccl / "current").unlink()
    (container.nccl / "lib").mkdir()
    assert container.start() == f"{container.nccl}/lib"


def test_jobs_are_the_plugins_business(container: Container) -> None:
    assert container.start(SLURM_JOB_ID="7") == ""


@pytest.mark.parametrize("place", ["usr/lib/libnccl.so.2", "usr/lib/x86_64-linux-gnu/libnccl.so.2.28.7", "environ"])
def test_an_image_with_an_nccl_of_its_own_keeps_it(container: Container, place: str) -> None:
    if place == "environ":
        container.environ.write_text("NCCL_VERSION=9.9.9\n")
    else:
        (container.root / place).parent.mkdir(parents=True, exist_ok=True)
        (container.root / place).symlink_to("/nowhere")
    assert container.start() == ""


def test_a_folder_that_leads_to_the_nodes_own_is_not_the_images(container: Container, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/libnccl.so.2").touch()
    (container.root / "lib").symlink_to(tmp_path / "lib")
    assert container.start() == container.library


@pytest.mark.parametrize("missing", ["versions/2.28.7-1/lib", "current"])
def test_without_an_installation_nothing_happens(container: Container, missing: str) -> None:
    path = container.nccl / missing
    path.unlink() if path.is_symlink() else path.rmdir()
    assert container.start() == ""


def test_enroot_that_gives_nothing_is_no_failure(container: Container) -> None:
    assert container.start(ENROOT_ROOTFS="", ENROOT_ENVIRON="") == ""
    assert container.start(ENROOT_ENVIRON="/nonexistent") == ""
