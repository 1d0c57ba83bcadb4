"""The first way of asking that works is taken, whatever the better ones do."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurm_fsx_tools.errors import SlurmUnavailable
from slurm_fsx_tools.slurm.choice import ChosenClient, choose_client
from slurm_fsx_tools.slurm.json_client import JsonClient
from slurm_fsx_tools.slurm.pyslurm_client import PyslurmClient
from slurm_fsx_tools.slurm.text_client import TextClient

GOOD = """
class Node:
    name, state, configured_gres, address = "n1", "ALLOCATED+DRAIN", {"gpu:h100": 8}, "10.0.0.1"
    partitions, active_features, allocated_cpus, effective_cpus = ["all"], ["static"], 2, 8
class Nodes:
    @staticmethod
    def load():
        return {"n1": Node()}
"""


@pytest.fixture
def slurm(commands, data: Path, tmp_path: Path):
    """A Slurm 22.05 whose commands answer, and a pyslurm of some lines."""

    def make(pyslurm: str, limit_s: float = 20.0) -> ChosenClient:
        commands(
            {
                "scontrol": f'case "$*" in *partitions*) cat {data}/24.11/partitions.txt;; *--json*) '
                f"cat {data}/24.11/nodes.json;; *) cat {data}/24.11/nodes.txt;; esac",
                "sinfo": "echo slurm-wlm 22.05.8",
            }
        )
        folder = tmp_path / "packages"
        folder.mkdir(exist_ok=True)
        (folder / "pyslurm.py").write_text(pyslurm)
        return ChosenClient([PyslurmClient(limit_s=limit_s, folders=[str(folder)]), JsonClient(), TextClient()])

    return make


def test_pyslurm_is_taken_where_it_fits(slurm) -> None:
    client = slurm(f'__version__ = "22.5.3"\nprint("hello")\n{GOOD}')
    (node,) = client.nodes()
    assert (node.name, node.state, node.gpus, node.features) == ("n1", "draining", 8, ("static",))
    assert (node.partitions, node.partition, node.address) == (("all",), "all", "10.0.0.1")
    assert client.explain() == ["Slurm is asked by pyslurm"]


@pytest.mark.parametrize(
    ("pyslurm", "reason"),
    [
        pytest.param("import time\ntime.sleep(600)", "gave no answer within 1 s", id="hangs"),
        pytest.param("import os\nos._exit(1)", "ended with 1", id="ends the process"),
        pytest.param("import os\nos._exit(0)", "ended with 0", id="ends the process as if all were well"),
        pytest.param("import os\nos.abort()", "was ended by signal 6", id="crashes"),
        pytest.param("raise RuntimeError('no libslurm')", "RuntimeError: no libslurm", id="raises"),
        pytest.param(f'__version__ = "24.11.0"\n{GOOD}', "pyslurm 24.11.0 is not for Slurm 22.5", id="other release"),
        pytest.param('__version__ = "22.5.3"', "AttributeError", id="lacks what is asked"),
        pytest.param(f'__version__ = "22.5.3"\n{GOOD}\nNode.state = 7\nNode.name = b"n"', "ended with 1", id="odd"),
    ],
)
def test_a_pyslurm_that_does_not_work_is_passed_over_in_time(slurm, pyslurm: str, reason: str) -> None:
    client = slurm(pyslurm, limit_s=1.0 if "sleep" in pyslurm else 20.0)
    assert [node.name for node in client.nodes()] == ["n1", "n2", "n3", "n4"]
    ((name, why),) = client.passed_over
    assert name == "pyslurm"
    assert reason in why
    assert client.name == "--json"


def test_a_way_that_was_passed_over_is_not_tried_again(slurm, tmp_path: Path) -> None:
    client = slurm(f"open({str(tmp_path / 'tried')!r}, 'a').write('x')\nraise RuntimeError")
    client.nodes()
    client.nodes()
    assert (tmp_path / "tried").read_text() == "x"
    assert len(client.passed_over) == 1


def test_without_json_text_is_taken(commands, data: Path) -> None:
    folder = data / "22.05"
    no_json = "echo \"scontrol: unrecognized option '--json'\" >&2; exit 1"
    commands(
        {
            "scontrol": f"case $* in *--json*) {no_json};; *partitions*) cat {folder}/partitions.txt;; "
            f"*) cat {folder}/nodes.txt;; esac",
            "sinfo": "echo 'sinfo: error: no JSON here' >&2; exit 1",
        }
    )
    client = choose_client()
    assert [node.name for node in client.nodes()] == ["n1", "n2", "n3", "n4"]
    assert [each.name for each in client.passed_over] == ["pyslurm", "--json"]
    first, second, last = client.explain()
    assert first.startswith("pyslurm passed over: ")
    assert second == "--json passed over: sinfo ended with 1: sinfo: error: no JSON here"
    assert last == "Slurm is asked by text"


def test_a_controller_that_is_away_is_asked_once(commands, tmp_path: Path) -> None:
    away = f"echo $0 >> {tmp_path}/asked; echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1"
    commands({"squeue": away})
    client = ChosenClient([JsonClient(), TextClient()])
    with pytest.raises(SlurmUnavailable, match="Unable to contact"):
        client.jobs()
    assert (tmp_path / "asked").read_text().count("squeue") == 1
    assert client.passed_over == []
