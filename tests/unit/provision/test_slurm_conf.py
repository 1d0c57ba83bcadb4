"""slurm.conf is read with its includes, and Slurm itself is asked about a new text."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from slurm_fsx_tools.provision.slurm_conf import SlurmConfMissing, check_slurm_conf, find_slurm_conf, read_slurm_conf

from .conftest import Machine


def test_a_setting_is_found_in_the_file_that_is_included(parallelcluster: Machine) -> None:
    prolog = parallelcluster.conf.get("prolog")
    assert prolog is not None
    assert (prolog.value, prolog.file) == (
        "/opt/slurm/etc/scripts/prolog.d/*",
        "/opt/slurm/etc/slurm_parallelcluster.conf",
    )


@pytest.mark.parametrize(
    ("text", "value", "is_alone"),
    [
        pytest.param("Prolog=/a\n", "/a", True, id="plain"),
        pytest.param("  PROLOG = /a  # why\n", "/a", True, id="case, blanks and comment"),
        pytest.param('Prolog="/a b"\n', "/a b", True, id="quoted"),
        pytest.param("#Prolog=/no\nProlog=/a\n", "/a", True, id="one that is commented out"),
        pytest.param("Prolog=\\\n/a\n", "/a", False, id="over two lines"),
        pytest.param("SlurmdPort=1 Prolog=/a\n", "/a", False, id="behind another one"),
        pytest.param("Prolog=/a\nProlog=/b\n", "/b", True, id="twice: the last one counts"),
        pytest.param("Prolog=(null)\n", "", True, id="none by that word"),
    ],
)
def test_settings_are_read_as_slurm_reads_them(tmp_path: Path, text: str, value: str, is_alone: bool) -> None:
    path = tmp_path / "slurm.conf"
    path.write_text(text)
    conf = read_slurm_conf(str(path))
    assert conf.value("Prolog") == value
    assert conf.all("Prolog")[-1].is_alone == is_alone


def test_a_file_that_includes_itself_is_read(tmp_path: Path) -> None:
    path = tmp_path / "slurm.conf"
    path.write_text("ClusterName=a\nInclude slurm.conf\n")
    assert read_slurm_conf(str(path)).value("ClusterName") == "a"


def test_files_that_include_each_other_many_times_are_read_in_no_time(tmp_path: Path) -> None:
    names = ["slurm.conf", *(f"{number}.conf" for number in range(12))]
    for name in names:
        (tmp_path / name).write_text("".join(f"Include {each}\n" for each in names) + "ClusterName=a\n")
    assert read_slurm_conf(str(tmp_path / "slurm.conf")).value("ClusterName") == "a"


def test_a_node_of_a_configless_cluster_is_told_from_one_without_slurm(tmp_path: Path) -> None:
    with pytest.raises(SlurmConfMissing, match=r"no slurm\.conf"):
        find_slurm_conf(str(tmp_path))
    Machine(tmp_path, {"run/slurm/conf/slurm.conf": "ClusterName=a\n"})
    with pytest.raises(SlurmConfMissing, match="from slurmctld"):
        find_slurm_conf(str(tmp_path))
    assert find_slurm_conf(str(tmp_path), copies=True) == "/run/slurm/conf/slurm.conf"


@pytest.mark.skipif(not shutil.which("scontrol"), reason="needs Slurm's scontrol")
def test_slurm_finds_fault_with_a_text_before_it_takes_its_place(tmp_path: Path) -> None:
    good = "ClusterName=a\nSlurmctldHost=localhost\nNodeName=n1\nPartitionName=p Nodes=ALL\nInclude more.conf\n"
    (tmp_path / "more.conf").write_text("PrologFlags=Alloc\n")
    path = str(tmp_path / "slurm.conf")
    assert check_slurm_conf(path, good) == ""
    assert "Prologue" in check_slurm_conf(path, f"{good}Prologue=/x\n")
    assert [file.name for file in tmp_path.iterdir()] == ["more.conf"]
