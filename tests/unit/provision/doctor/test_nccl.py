"""Checks of the shared NCCL, on small real libraries."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from lab.nccl import install_nccl
from lab.nccl_version import VERSION, install_version
from slurm_fsx_tools.provision.doctor.findings import NOTE, PROBLEM, WARNING

from .conftest import Machine

CHECKS = ("nccl-installed", "nccl-files")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version of NCCL, compiled once."""
    if not shutil.which("cc"):
        pytest.skip("needs a C compiler")
    fsx = tmp_path_factory.mktemp("nccl")
    install_version(fsx)
    return fsx / "nccl"


@pytest.fixture
def folder(machine: Machine, built: Path) -> Path:
    return shutil.copytree(built, machine.fsx / "nccl", symlinks=True)


def test_a_whole_version_is_well(machine: Machine, folder: Path) -> None:
    assert not machine.find(*CHECKS)


def test_an_installation_by_a_script_is_well_if_users_can_read_it() -> None:
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(Path(folder))
        install_nccl(machine.fsx)
        script = machine.fsx / "nccl/setup-nccl-env.sh"
        script.write_text(script.read_text().replace("/fsx", str(machine.fsx)))
        (finding,) = machine.find(*CHECKS)
        assert "cannot be read by everybody" in finding.finding
        Path(folder).chmod(0o755)
        assert not machine.find(*CHECKS)


def test_no_installation_is_a_warning(machine: Machine) -> None:
    (finding,) = machine.find(*CHECKS)
    assert (finding.severity, finding.command) == (WARNING, "slurm-fsx nccl install")


def test_nccl_that_is_switched_off_is_a_note(machine: Machine, folder: Path) -> None:
    machine.values["nccl.enabled"] = False
    (finding,) = machine.find("nccl-installed")
    assert finding.severity == NOTE


def test_an_installation_that_others_can_write_to_reaches_no_job(machine: Machine) -> None:
    install_nccl(machine.fsx)
    (machine.fsx / "nccl/setup-nccl-env.sh").chmod(0o666)
    (finding,) = machine.find(*CHECKS)
    assert finding.severity == PROBLEM
    script = f"{machine.fsx}/nccl/setup-nccl-env.sh"
    assert finding.finding.startswith(f"Jobs get nothing of {machine.fsx}/nccl: {script} can be written by others")
    assert finding.command == f"chown -R root {machine.fsx}/nccl && chmod -R go-w {machine.fsx}/nccl"


def test_a_current_version_that_is_gone_is_a_problem(machine: Machine, folder: Path) -> None:
    shutil.rmtree(folder / "versions" / VERSION)
    found = machine.find("nccl-installed")
    assert [finding.severity for finding in found] == [PROBLEM]
    assert "which is not installed" in found[0].finding
    assert found[0].command == "slurm-fsx nccl list"
    assert "nobody else" not in found[0].why


def test_a_missing_library_is_a_problem(machine: Machine, folder: Path) -> None:
    (folder / "versions" / VERSION / "lib/libnccl-net-ofi.so").unlink()
    (finding,) = machine.find("nccl-files")
    assert finding.severity == PROBLEM
    assert "missing: " in finding.finding
    assert finding.finding.startswith(f"NCCL {VERSION}, files: ")
    assert finding.command == "slurm-fsx nccl install --anew --nccl v2.28.7-1"


def test_a_library_that_somebody_else_owns_is_given_back(machine: Machine, folder: Path) -> None:
    (folder / "versions" / VERSION / "lib/libnccl.so.2").chmod(0o777)
    (finding,) = machine.find("nccl-files")
    assert finding.command == f"chown -R root {folder} && chmod -R go-w {folder}"


def test_a_library_that_tells_another_version_is_a_problem(machine: Machine, folder: Path) -> None:
    shutil.rmtree(folder / "versions")
    install_version(machine.fsx, code=22500)
    found = machine.find("nccl-files")
    assert any("the library says 2.25.0" in finding.finding for finding in found)


def share(machine: Machine, checkout: Path) -> None:
    shutil.copytree(checkout / "share", machine.home / "share/slurm-fsx")


def put(machine: Machine) -> None:
    from slurm_fsx_tools.nccl.on_node import apply_here
    from slurm_fsx_tools.shared_fs import SharedFs

    context = machine.context
    apply_here(context.config, SharedFs(str(machine.fsx), 10), f"{machine.home}/share/slurm-fsx", str(machine.etc))


def test_sessions_and_containers_need_files_in_etc(machine: Machine, checkout: Path, folder: Path) -> None:
    share(machine, checkout)
    (finding,) = machine.find("nccl-reach")
    assert f"Sessions by SSH do not get the shared NCCL: {machine.etc}/profile.d/nccl-shared.sh is" in finding.finding
    assert (finding.command, finding.is_safe) == ("slurm-fsx nccl apply-here", True)
    (machine.etc / "enroot").mkdir()
    found = {finding.finding.partition(":")[0]: finding.severity for finding in machine.find("nccl-reach")}
    assert found == {
        "Sessions by SSH do not get the shared NCCL": WARNING,
        "Containers do not see the shared NCCL": WARNING,
        "Containers that somebody starts by hand do not find the shared NCCL": NOTE,
    }
    put(machine)
    assert not machine.find("nccl-reach")


def test_a_site_may_mount_the_shared_nccl_by_a_line_of_its_own(machine: Machine, checkout: Path, folder: Path) -> None:
    share(machine, checkout)
    put(machine)
    (machine.etc / "enroot/mounts.d").mkdir(parents=True)
    for line, is_well in ((f"#{folder} {folder} none", False), (f"{folder} {folder} none bind", True)):
        (machine.etc / "enroot/mounts.d/site.fstab").write_text(f"{line}\n")
        assert any("nothing in" in text for text in machine.texts("nccl-reach")) != is_well
    (machine.etc / "enroot/mounts.d/site.fstab").write_text(f"{machine.fsx} {machine.fsx} none rbind\n")
    assert not any("nothing in" in text for text in machine.texts("nccl-reach"))


def test_a_file_in_etc_that_was_changed_is_told(machine: Machine, checkout: Path, folder: Path) -> None:
    share(machine, checkout)
    put(machine)
    (machine.etc / "profile.d/nccl-shared.sh").write_text("# empty\n")
    assert machine.find("nccl-reach")
    put(machine)
    os.chmod(machine.etc / "profile.d/nccl-shared.sh", 0o600)
    assert machine.find("nccl-reach")


def test_without_an_installation_nothing_need_reach_sessions(machine: Machine, checkout: Path) -> None:
    share(machine, checkout)
    assert not machine.find("nccl-reach")
