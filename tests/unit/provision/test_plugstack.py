"""Our lines stand around Pyxis's, wherever that is."""

from __future__ import annotations

import os

import pytest

from slurm_fsx_tools.errors import NotHere
from slurm_fsx_tools.provision.plugstack import plugstack_path, plugstack_steps, read_plugstack

from .conftest import Machine

HOME = "/opt/slurm-fsx"
PYXIS = "required /usr/lib/slurm/spank_pyxis.so container_scope=job\n"


def order(machine: Machine) -> list[str]:
    """Give what Slurm would load, in order."""
    found = []
    for line in read_plugstack(plugstack_path(machine.conf), machine.conf.root).lines:
        name = line.plugin.rpartition("/")[2]
        found.append(f"{name} {line.option('line', '')} {line.option('container_scope', '')}".strip())
    return found


def test_files_of_our_own_stand_around_pyxis_where_a_folder_is_included(parallelcluster: Machine) -> None:
    before = parallelcluster.tree()
    parallelcluster.apply(plugstack_steps(parallelcluster.conf, HOME))
    assert order(parallelcluster) == [
        "spank_slurm_fsx.so before global",
        "spank_pyxis.so",
        "spank_slurm_fsx.so after global",
    ]
    text = parallelcluster.read("/opt/slurm/etc/plugstack.conf.d/00-slurm-fsx-before.conf")
    assert text.startswith("# Written by slurm-fsx setup.")
    assert not parallelcluster.apply(plugstack_steps(parallelcluster.conf, HOME)).events
    parallelcluster.undo()
    assert parallelcluster.tree() == before


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({"etc/slurm/plugstack.conf": f"optional other.so\n{PYXIS}optional last.so\n"}, id="itself"),
        pytest.param(
            {"etc/slurm/plugstack.conf": "include extra.conf\n", "etc/slurm/extra.conf": PYXIS}, id="an included file"
        ),
        pytest.param(
            {
                "etc/slurm/plugstack.conf": "include /etc/slurm/plugstack.conf.d/*\n",
                "etc/slurm/plugstack.conf.d/zzz.conf": PYXIS,
            },
            id="a file that no name sorts behind",
        ),
    ],
)
def test_lines_stand_around_pyxis_in_its_own_file(debian: Machine, files: dict[str, str]) -> None:
    for path, text in files.items():
        debian.write(path, text)
    before = debian.tree()
    debian.apply(plugstack_steps(debian.conf, HOME))
    loaded = [line for line in order(debian) if "slurm_fsx" in line or "pyxis" in line]
    assert loaded == ["spank_slurm_fsx.so before job", "spank_pyxis.so  job", "spank_slurm_fsx.so after job"]
    assert not debian.apply(plugstack_steps(debian.conf, HOME)).events
    debian.undo()
    assert debian.tree() == before


def test_a_changed_scope_of_pyxis_is_followed(debian: Machine) -> None:
    debian.write("etc/slurm/plugstack.conf", PYXIS)
    debian.apply(plugstack_steps(debian.conf, HOME))
    debian.write(
        "etc/slurm/plugstack.conf", debian.read("etc/slurm/plugstack.conf").replace(PYXIS, "required spank_pyxis.so\n")
    )
    debian.apply(plugstack_steps(debian.conf, HOME))
    assert order(debian) == ["spank_slurm_fsx.so before global", "spank_pyxis.so", "spank_slurm_fsx.so after global"]


def test_lines_that_an_admin_wrote_as_the_readme_says_are_taken_over(debian: Machine) -> None:
    plugin = "optional /opt/slurm-fsx/lib/slurm/spank_slurm_fsx.so"
    debian.write("etc/slurm/plugstack.conf", f"{plugin} line=before\n{PYXIS}{plugin} line=after container_scope=job\n")
    debian.apply(plugstack_steps(debian.conf, HOME))
    assert order(debian) == ["spank_slurm_fsx.so before job", "spank_pyxis.so  job", "spank_slurm_fsx.so after job"]


def test_without_pyxis_one_line_says_what_runs_containers(debian: Machine) -> None:
    debian.apply(plugstack_steps(debian.conf, HOME, "bwrap"))
    assert "spank_slurm_fsx.so runtime=bwrap" in debian.read("etc/slurm/plugstack.conf")


def test_pyxis_that_is_asked_for_and_missing_is_said(debian: Machine) -> None:
    with pytest.raises(NotHere, match="no line of Pyxis"):
        plugstack_steps(debian.conf, HOME, "pyxis")


def test_plugin_folders_that_include_each_other_or_hold_no_files_are_read(debian: Machine) -> None:
    folder = debian.path("/etc/slurm/plugstack.conf.d")
    for number in range(12):
        (folder / f"{number}.conf").write_text("include /etc/slurm/plugstack.conf.d/*\n")
    (folder / "folder.conf").mkdir()
    os.mkfifo(folder / "fifo.conf")
    (folder / "pyxis.conf").write_text(PYXIS)
    (line,) = read_plugstack("/etc/slurm/plugstack.conf", str(debian.root)).lines
    assert line.words == tuple(PYXIS.split())


def test_a_runtime_that_is_asked_for_and_not_there_is_said_to_be_so(debian: Machine) -> None:
    with pytest.raises(NotHere, match=r"has no line of Pyxis; install Pyxis, or choose another"):
        plugstack_steps(debian.conf, HOME, "pyxis")
