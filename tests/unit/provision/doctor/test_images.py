"""Checks of images, on real ones in a real catalogue."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from lab.images import make_image
from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.containers.imports.state import DIED, FAILED, ImportState
from slurm_fsx_tools.containers.index import update_index
from slurm_fsx_tools.provision.doctor.findings import NOTE, PROBLEM, WARNING

from .conftest import Machine

NAME = "nvcr.io_nvidia_pytorch-24.01-py3"
URI = "docker://nvcr.io/nvidia/pytorch:24.01-py3"
CHECKS = ("images", "image-names", "image-imports")


@pytest.fixture
def catalogue(machine: Machine) -> Path:
    folder = machine.fsx / "containers"
    folder.mkdir()
    make_image(folder / f"{NAME}.sqsh")
    (folder / ".slurm-fsx").mkdir()
    for path in (folder / f"{NAME}.sqsh", folder):  # settled: nothing waits for its time to pass
        os.utime(path, (time.time() - 7200,) * 2)
    update_index(Config(machine.values), False)
    return folder


def test_whole_images_with_an_index_are_well(machine: Machine, catalogue: Path) -> None:
    assert not machine.find(*CHECKS)


@pytest.mark.parametrize("exists", [True, False], ids=["empty", "missing"])
def test_a_catalogue_without_images_is_a_warning(machine: Machine, exists: bool) -> None:
    if exists:
        (machine.fsx / "containers").mkdir()
    (finding,) = machine.find(*CHECKS)
    assert (finding.severity, finding.command) == (WARNING, "slurm-fsx containers sync --background")


@pytest.mark.parametrize(
    "size", [pytest.param(50, id="no-superblock"), pytest.param(100_000, id="cut"), pytest.param(0, id="empty")]
)
def test_a_truncated_image_is_a_problem(machine: Machine, catalogue: Path, size: int) -> None:
    image = catalogue / f"{NAME}.sqsh"
    os.truncate(image, size)
    (finding,) = machine.find("images")
    assert finding.severity == PROBLEM
    assert finding.finding.startswith(f"{image} cannot be used: ")
    assert finding.command == f"slurm-fsx containers remove {NAME}.sqsh"


@pytest.mark.parametrize(
    ("mode", "is_well"),
    [
        pytest.param(0o600, False, id="owner"),
        pytest.param(0o000, False, id="nobody"),
        pytest.param(0o640, True, id="group"),
        pytest.param(0o644, True, id="all"),
    ],
)
def test_an_image_that_its_owner_alone_may_read_is_a_warning(
    machine: Machine, catalogue: Path, mode: int, is_well: bool
) -> None:
    image = catalogue / f"{NAME}.sqsh"
    image.chmod(mode)
    found = machine.find("images")
    assert (not found) == is_well
    for finding in found:
        assert (finding.severity, finding.command, finding.is_safe) == (WARNING, f"chmod a+r {image}", False)
        assert finding.finding == f"{image} can be read by its owner alone (mode {mode:04o})."


def test_an_image_whose_folders_cannot_be_read_is_a_problem(machine: Machine, catalogue: Path) -> None:
    image = catalogue / f"{NAME}.sqsh"
    data = bytearray(image.read_bytes())
    data[-2000:-200] = os.urandom(1800)
    image.write_bytes(data)
    (finding,) = machine.find("images")
    assert "unsquashfs ended with" in finding.finding


def test_an_image_that_takes_too_long_to_read_is_not_called_damaged(
    machine: Machine, catalogue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        program = Path(folder, "unsquashfs")
        program.write_text("#!/bin/sh\nexec sleep 600\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        assert not machine.find("images")


def test_an_index_that_is_missing_or_old_is_a_note_that_can_be_fixed(machine: Machine, catalogue: Path) -> None:
    make_image(catalogue / "new-1.0.sqsh")
    (finding,) = machine.find("image-names")
    assert (finding.severity, finding.is_safe) == (NOTE, True)
    assert "older than what is there" in finding.finding
    (catalogue / ".slurm-fsx/index").unlink()
    (finding,) = machine.find("image-names")
    assert "is missing" in finding.finding
    assert finding.command == "slurm-fsx containers index"


def test_an_index_of_another_configuration_is_a_note(machine: Machine, catalogue: Path) -> None:
    index = catalogue / ".slurm-fsx/index"
    index.write_bytes(index.read_bytes().replace(b"default", b"another"))
    assert "of another configuration" in machine.texts("image-names")[0]


def test_an_alias_of_nothing_is_a_container_not_found(machine: Machine, catalogue: Path) -> None:
    machine.values["containers.aliases"] = {"torch": URI, "nemo": "docker://nvcr.io/nvidia/nemo:24.01"}
    (finding,) = [each for each in machine.find("image-names") if each.severity == PROBLEM]
    assert "The alias nemo means" in finding.finding
    assert finding.command == "slurm-fsx containers import docker://nvcr.io/nvidia/nemo:24.01"


def remember(catalogue: Path, phase: str, text: str, file: str = "nvcr.io_nvidia_nemo-1.sqsh") -> None:
    folder = catalogue / ".slurm-fsx/imports"
    folder.mkdir(exist_ok=True)
    state = ImportState(file, URI, "head", 1, phase, 0, 0, time.time(), time.time(), text)
    (folder / f"{file}.json").write_text(json.dumps(state._asdict()))


def test_a_failed_download_is_told_with_its_reason(machine: Machine, catalogue: Path) -> None:
    remember(catalogue, FAILED, "nvcr.io answered 503 for an hour")
    (finding,) = machine.find("image-imports")
    assert finding.finding == "The download of nvcr.io_nvidia_nemo-1.sqsh failed: nvcr.io answered 503 for an hour."
    assert finding.command == f"slurm-fsx containers import {URI}"


@pytest.mark.parametrize("phase", [FAILED, "downloading"])
def test_a_download_that_nobody_wants_can_be_forgotten(machine: Machine, catalogue: Path, phase: str) -> None:
    remember(catalogue, phase, "there is no such image")
    (finding,) = machine.find("image-imports")
    _, wanted, command = finding.why.partition("Where nobody wants it any more: ")
    assert wanted
    subprocess.run(["sh", "-c", command.rstrip(".")], check=True)
    assert not machine.find("image-imports")


def test_a_refused_download_tells_of_credentials(machine: Machine, catalogue: Path) -> None:
    remember(catalogue, FAILED, "nvcr.io answers 401")
    (finding,) = machine.find("image-imports")
    assert "authn.nvidia.com" in finding.why


def test_a_download_that_was_killed_is_told(machine: Machine, catalogue: Path) -> None:
    remember(catalogue, "downloading", "")
    (finding,) = machine.find("image-imports")
    assert "has ended half-way, on head" in finding.finding
    assert DIED != FAILED


def test_a_download_that_was_made_up_for_is_forgotten(machine: Machine, catalogue: Path) -> None:
    remember(catalogue, FAILED, "no room", f"{NAME}.sqsh")
    assert not machine.find("image-imports")
