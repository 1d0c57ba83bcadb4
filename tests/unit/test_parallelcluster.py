"""What is read of ParallelCluster's file about a node."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurm_fsx_tools.errors import UntrustedFile
from slurm_fsx_tools.parallelcluster import HEAD, cluster_name, read_cfnconfig

FILE = """\
stack_name=train-2
cfn_preinstall="/opt/parallelcluster/scripts/fetch_and_run -preinstall"
cfn_preinstall_args=()
cfn_postinstall_args=("a b" c)
cfn_node_type=HeadNode
cfn_proxy=
  cfn_region='eu-west-1'  # where it is
rm -rf /
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "cfnconfig"
    path.write_text(FILE)
    path.chmod(0o644)
    return path


def test_plain_assignments_are_read(file: Path) -> None:
    values = read_cfnconfig(str(file))
    assert cluster_name(values) == "train-2"
    assert values["cfn_node_type"] == HEAD
    assert values["cfn_preinstall"] == "/opt/parallelcluster/scripts/fetch_and_run -preinstall"
    assert values["cfn_proxy"] == ""
    assert values["cfn_region"] == "eu-west-1"
    assert not [name for name in values if name.endswith("_args")]


def test_nothing_in_the_file_is_run(file: Path, tmp_path: Path) -> None:
    file.write_text(f'stack_name="$(touch {tmp_path}/ran)"\ncfn_region=`touch {tmp_path}/ran`\n')
    assert cluster_name(read_cfnconfig(str(file))) == f"$(touch {tmp_path}/ran)"
    assert not (tmp_path / "ran").exists()


def test_without_parallelcluster_there_is_nothing(tmp_path: Path) -> None:
    assert read_cfnconfig(str(tmp_path / "none")) == {}
    assert cluster_name({}) == ""


def test_a_file_that_others_may_write_is_not_believed(file: Path) -> None:
    file.chmod(0o666)
    with pytest.raises(UntrustedFile):
        read_cfnconfig(str(file))


def test_a_quote_that_stays_open_hurts_its_own_line_alone(file: Path) -> None:
    file.write_text('cfn_proxy="http\nstack_name=a\n')
    assert read_cfnconfig(str(file)) == {"stack_name": "a"}
