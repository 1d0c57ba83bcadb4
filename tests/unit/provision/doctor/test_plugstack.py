"""Checks of plugstack.conf, on real files and on libraries that are compiled here."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from slurm_fsx_tools.errors import SlurmFsxError
from slurm_fsx_tools.provision.doctor.elf import read_number
from slurm_fsx_tools.provision.doctor.findings import COMPUTE, HEAD, NOTE, PROBLEM, WARNING

from .conftest import Machine

SLURM_22 = 22 << 16 | 5 << 8 | 8


@functools.cache
def library(version: int | None) -> bytes:
    """Compile a plugin for a release of Slurm, or one that does not say for which."""
    number = "" if version is None else f"const unsigned int plugin_version = {version};\n"
    source = f'{number}const char said[] = "pyxis: version v0.20.0";\nextern int undefined(void);\n'
    source += "int slurm_spank_init(void) { return undefined(); }\n"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "plugin.so")
        command = ["cc", "-shared", "-fPIC", "-Wl,-z,now", "-x", "c", "-", "-o", str(path)]
        subprocess.run(command, input=source.encode(), check=True)
        return path.read_bytes()


class Stack:
    """A folder for plugstack.conf, with plugins that are there."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine = machine
        self.folder = folder
        self.conf = folder / "plugstack.conf"
        self.ours = self.plugin("spank_slurm_fsx.so")
        self.pyxis = self.plugin("spank_pyxis.so")
        machine.facts["slurm"] = {
            "settings": {"plugindir": str(folder), "plugstackconfig": "(null)"},
            "conf": str(folder / "slurm.conf"),
            "reason": "",
            "is_here": True,
        }
        machine.facts["slurm-version"] = "22.05.8"

    def plugin(self, name: str, version: int | None = SLURM_22) -> Path:
        path = self.folder / name
        path.write_bytes(library(version))
        return path

    def write(self, *lines: str, name: str = "plugstack.conf") -> None:
        (self.folder / name).write_text("".join(f"{line}\n" for line in lines))

    def write_good(self) -> None:
        self.write(
            "# comment",
            f"optional {self.ours} line=before container_scope=job",
            f"required {self.pyxis} container_scope=job  # ours: line=after",
            "optional spank_slurm_fsx.so line=after",
        )


@pytest.fixture
def stack(machine: Machine, tmp_path: Path) -> Stack:
    if not shutil.which("cc"):
        pytest.skip("needs a C compiler")
    folder = tmp_path / "slurm"
    folder.mkdir()
    return Stack(machine, folder)


CHECKS = ("plugstack", "plugin-build", "container-scope")


def test_two_lines_around_pyxis_are_well(stack: Stack) -> None:
    stack.write_good()
    assert not stack.machine.find(*CHECKS)


def test_included_lines_stand_where_they_are_included(stack: Stack) -> None:
    (stack.folder / "conf.d").mkdir()
    stack.write(f"required {stack.pyxis} container_scope=job", name="conf.d/pyxis.conf")
    stack.write(f"optional {stack.ours} line=before", "include conf.d/*", f"optional {stack.ours} line=after")
    assert not stack.machine.find(*CHECKS)
    stack.write("include conf.d/*", f"optional {stack.ours} line=before", f"optional {stack.ours} line=after")
    (finding,) = stack.machine.find(*CHECKS)
    assert "no line of our plugin before Pyxis's" in finding.finding


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        pytest.param(["required {pyxis} container_scope=job"], "no line of our plugin", id="none"),
        pytest.param(["{ours} line=before", "{pyxis} container_scope=job"], "after Pyxis's", id="no-after"),
        pytest.param(["{pyxis} container_scope=job", "{ours} line=after"], "before Pyxis's", id="no-before"),
        pytest.param(
            ["{ours} line=after", "{pyxis} container_scope=job", "{ours}"], "before Pyxis's", id="wrong-place"
        ),
    ],
)
def test_lines_in_the_wrong_order_are_told(stack: Stack, lines: list[str], said: str) -> None:
    words = {"ours": f"optional {stack.ours}", "pyxis": f"required {stack.pyxis}"}
    if lines[0].startswith("required"):
        words["pyxis"] = str(stack.pyxis)
    stack.write(*(line.format(**words) for line in lines))
    (finding,) = stack.machine.find("plugstack")
    assert finding.severity == PROBLEM
    assert said in finding.finding


def test_without_pyxis_one_line_does(stack: Stack) -> None:
    stack.write(f"optional {stack.ours} runtime=bwrap")
    assert not stack.machine.find(*CHECKS)


def test_our_plugin_must_be_optional(stack: Stack) -> None:
    stack.write(f"required {stack.ours} runtime=bwrap")
    (finding,) = stack.machine.find("plugstack")
    assert finding.finding == f"{stack.conf}:1 makes our plugin required."
    assert finding.command == "slurm-fsx setup head"


@pytest.mark.parametrize(
    ("roles", "kind", "is_configless", "command", "is_elsewhere"),
    [
        pytest.param([COMPUTE], "ext4", False, "slurm-fsx setup node", False, id="of-the-node"),
        pytest.param([COMPUTE], "nfs4", False, "slurm-fsx setup head", True, id="shared"),
        pytest.param([COMPUTE], "ext4", True, "slurm-fsx setup head", True, id="configless"),
        pytest.param([HEAD], "nfs4", True, "slurm-fsx setup head", False, id="on-the-head-node"),
    ],
)
def test_lines_are_written_by_the_machine_whose_file_it_is(
    stack: Stack, roles: list[str], kind: str, is_configless: bool, command: str, is_elsewhere: bool
) -> None:
    stack.machine.facts["roles"] = roles
    stack.machine.facts["mounts"] = [[str(stack.folder), kind, "server:/slurm", ""]]
    if is_configless:
        stack.machine.facts["slurm"]["settings"]["slurmctldparameters"] = "enable_configless"
    stack.write(f"required {stack.pyxis} container_scope=global", f"optional {stack.ours} container_scope=job")
    found = stack.machine.find("plugstack", "container-scope")
    assert [finding.check for finding in found] == ["plugstack", "container-scope"]
    for finding in found:
        assert finding.command == command
        assert finding.why.endswith(" It is the head node's file: run the command there.") == is_elsewhere


def test_a_plugin_that_is_not_there_is_told(stack: Stack) -> None:
    stack.write(f"optional {stack.ours} runtime=bwrap", "optional /nowhere/x.so")
    (finding,) = stack.machine.find(*CHECKS)
    assert finding.finding == f"{stack.conf}:2 names /nowhere/x.so, which is not there."


def test_an_include_of_nothing_is_a_note_and_a_left_over_in_it_a_warning(stack: Stack) -> None:
    stack.write(f"optional {stack.ours} runtime=bwrap", "include more.conf")
    (finding,) = stack.machine.find("plugstack")
    assert finding.severity == NOTE
    stack.write(f"optional {stack.ours} runtime=bwrap", "include conf.d/*")
    assert not stack.machine.find("plugstack")
    (stack.folder / "conf.d").mkdir()
    stack.write(name="conf.d/sedA1b2C3")
    (finding,) = stack.machine.find("plugstack")
    assert finding.severity == WARNING


def test_a_configless_cluster_takes_no_pattern(stack: Stack) -> None:
    (stack.folder / "conf.d").mkdir()
    stack.write(f"optional {stack.ours} runtime=bwrap", name="conf.d/x.conf")
    stack.write("include conf.d/*")
    assert not stack.machine.find("plugstack")
    stack.machine.facts["slurm"]["settings"]["slurmctldparameters"] = "enable_configless"
    (finding,) = stack.machine.find("plugstack")
    assert "configless" in finding.finding
    # As ParallelCluster has it: every node has that folder.
    stack.write(f"include {stack.folder}/conf.d/*")
    assert not stack.machine.find("plugstack")


def test_a_node_of_a_configless_cluster_has_its_copy_beside_that_of_slurm_conf(stack: Stack) -> None:
    stack.write_good()
    stack.machine.facts["slurm"]["settings"]["plugstackconfig"] = "/slurmctlds/own/plugstack.conf"
    assert not stack.machine.find("plugstack")


def test_a_loop_of_includes_ends(stack: Stack) -> None:
    stack.write("include plugstack.conf", f"optional {stack.ours} runtime=bwrap")
    assert not stack.machine.find("plugstack")


@pytest.mark.parametrize(
    ("version", "is_well"),
    [
        pytest.param(SLURM_22, True, id="same"),
        pytest.param(22 << 16 | 5 << 8 | 11, True, id="other-last-number"),
        pytest.param(24 << 16 | 11 << 8 | 5, False, id="newer"),
        pytest.param(21 << 16 | 8 << 8 | 5, False, id="older"),
    ],
)
def test_a_plugin_must_be_built_for_the_slurm_that_runs(stack: Stack, version: int, is_well: bool) -> None:
    stack.plugin("spank_slurm_fsx.so", version)
    stack.write(f"optional {stack.ours} runtime=bwrap")
    found = stack.machine.find("plugin-build")
    assert not found if is_well else "and this is 22.05.8" in found[0].finding


def test_a_plugin_of_another_project_is_looked_at_too(stack: Stack) -> None:
    stack.write_good()
    stack.plugin("spank_pyxis.so", 24 << 16 | 11 << 8)
    (finding,) = stack.machine.find("plugin-build")
    assert "built for Slurm 24.11.0" in finding.finding
    assert "every job fails" in finding.why


def test_a_file_that_is_no_plugin_is_told(stack: Stack) -> None:
    stack.write(f"optional {stack.ours} runtime=bwrap")
    stack.ours.write_bytes(b"\x7fELF\x02\x01 and no more")
    (finding,) = stack.machine.find("plugin-build")
    assert finding.severity == WARNING


def test_numbers_are_read_from_a_library_without_loading_it(stack: Stack) -> None:
    data = stack.ours.read_bytes()
    assert read_number(data, "plugin_version") == SLURM_22
    assert read_number(data, "plugin_versio") is None
    assert read_number(stack.plugin("other.so", None).read_bytes(), "plugin_version") is None
    for broken in (b"", b"#!/bin/sh\n", data[:100], data[: len(data) // 2]):
        with pytest.raises(SlurmFsxError):
            read_number(broken, "plugin_version")


@pytest.mark.parametrize(
    ("ours", "pyxis", "severities"),
    [
        pytest.param("container_scope=job", "container_scope=job", [], id="same"),
        pytest.param("", "container_scope=job", [], id="ours-by-default"),
        pytest.param("container_scope=global", "container_scope=global", [], id="both-global"),
        pytest.param("container_scope=job", "container_scope=global", [PROBLEM], id="different"),
        pytest.param("container_scope=job", "", [WARNING], id="pyxis-by-default"),
        pytest.param("container_scope=global", "", [], id="pyxis-by-default-and-ours-as-set-up"),
    ],
)
def test_container_scope_must_be_the_same(stack: Stack, ours: str, pyxis: str, severities: list[str]) -> None:
    mine = f"optional {stack.ours} {ours}"
    stack.write(f"{mine} line=before", f"required {stack.pyxis} {pyxis}", f"{mine} line=after")
    assert [finding.severity for finding in stack.machine.find("container-scope")] == severities
