"""What people come with leads to the finding that explains it, by the checks that the page names for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab.nccl import install_nccl
from slurm_fsx_tools.containers.imports.state import FAILED
from slurm_fsx_tools.provision.doctor.checks import SYMPTOMS

from .conftest import Machine
from .test_images import remember

SLURM = {"settings": {"prologflags": "Alloc"}, "conf": "/etc/slurm/slurm.conf", "reason": "", "is_here": True}


def no_nccl(machine: Machine) -> None:
    pass


def open_nccl(machine: Machine) -> None:
    install_nccl(machine.fsx)
    (machine.fsx / "nccl").chmod(0o777)


def no_prolog(machine: Machine) -> None:
    machine.facts["slurm"] = {**SLURM, "settings": {"prolog": "/nowhere/*", "prologflags": "Alloc"}}


def no_plugin(machine: Machine) -> None:
    machine.facts["slurm"] = SLURM
    machine.facts["plugstack"] = ["/etc/slurm/plugstack.conf", [], [], []]


def no_image(machine: Machine) -> None:
    (machine.fsx / "containers").mkdir()


def dead_alias(machine: Machine) -> None:
    no_image(machine)
    machine.values["containers.aliases"] = {"torch": "docker://nvcr.io/nvidia/pytorch:24.01-py3"}


def failed_download(machine: Machine) -> None:
    (machine.fsx / "containers/.slurm-fsx").mkdir(parents=True)
    remember(machine.fsx / "containers", FAILED, "nvcr.io answers 401")


def not_mounted(machine: Machine) -> None:
    (machine.etc / "fstab").write_text(f"fs-1:/abc {machine.fsx} lustre flock 0 0\n")


def no_profile(machine: Machine) -> None:
    install_nccl(machine.fsx)
    script = machine.home / "share/slurm-fsx/profile.d/nccl-shared.sh"
    script.parent.mkdir(parents=True)
    script.write_text("# for sessions\n")


@pytest.mark.parametrize(
    ("symptom", "fault", "said"),
    [
        pytest.param("NCCL is not found", no_nccl, "There is no NCCL in", id="nccl-not-installed"),
        pytest.param("NCCL is not found", open_nccl, "Jobs get nothing of", id="nccl-not-believed"),
        pytest.param("NCCL is not found", no_prolog, "Slurm's Prolog does not run our script", id="nccl-no-prolog"),
        pytest.param("NCCL is not found", no_plugin, "has no line of our plugin", id="nccl-no-plugin"),
        pytest.param("A container is not found", no_image, "There is no image in", id="container-no-image"),
        pytest.param("A container is not found", dead_alias, "The alias torch means", id="container-dead-alias"),
        pytest.param("A container is not found", no_plugin, "has no line of our plugin", id="container-no-plugin"),
        pytest.param("A container is not found", failed_download, "The download of", id="container-not-downloaded"),
        pytest.param("A download", failed_download, "nvcr.io answers 401", id="download"),
        pytest.param("/fsx is not mounted", not_mounted, "Nothing is mounted at", id="not-mounted"),
        pytest.param("A session by SSH", no_profile, "Sessions by SSH do not get the shared NCCL", id="ssh"),
    ],
)
def test_a_symptom_leads_to_its_cause(
    machine: Machine, symptom: str, fault: Callable[[Machine], None], said: str
) -> None:
    fault(machine)
    (row,) = [each for each in SYMPTOMS if each.name.startswith(symptom)]
    assert [text for text in machine.texts(*row.checks) if said in text]
