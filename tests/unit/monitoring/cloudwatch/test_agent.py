"""What is found of a node's CloudWatch agent."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from slurm_fsx_tools.monitoring.cloudwatch.agent import CloudWatchAgent

OURS = "/etc/slurm-fsx/slurm-fsx-cloudwatch.json"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    (tmp_path / "etc/amazon-cloudwatch-agent.d").mkdir(parents=True)
    control = tmp_path / "bin/amazon-cloudwatch-agent-ctl"
    control.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\n')
    control.chmod(0o755)
    return tmp_path


@pytest.fixture
def agent(home: Path) -> CloudWatchAgent:
    return CloudWatchAgent(str(home / "bin/amazon-cloudwatch-agent-ctl"))


def test_without_its_package_there_is_no_agent(tmp_path: Path) -> None:
    agent = CloudWatchAgent(str(tmp_path / "bin/ctl"))
    assert not agent.is_installed()
    assert agent.version() == ()
    assert agent.others(OURS) == []
    assert not agent.has(OURS)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        pytest.param("1.300070.0b1483\n", (1, 300070, 0), id="release"),
        pytest.param("", (), id="empty"),
        pytest.param("unknown\n", (), id="no-number"),
    ],
)
def test_its_version_is_read(home: Path, agent: CloudWatchAgent, text: str, version: tuple[int, ...]) -> None:
    (home / "bin/CWAGENT_VERSION").write_text(text)
    assert agent.is_installed()
    assert agent.version() == version


def test_what_others_have_told_it_is_found_and_ours_is_not_taken_for_theirs(home: Path, agent: CloudWatchAgent) -> None:
    folder = home / "etc/amazon-cloudwatch-agent.d"
    (home / "etc/amazon-cloudwatch-agent.json").write_text('{"a": 1}')
    (folder / "file_amazon-cloudwatch-agent.json").write_text('{"b": 2}')
    (folder / "file_slurm-fsx-cloudwatch.json").write_text('{"c": 3}')
    (folder / "file_x.json.tmp").write_text('{"d": 4}')
    (folder / "broken").write_text("{")
    (folder / "list").write_text("[]")
    (folder / "long").write_text(" " * (1 << 22) + "{}")
    (folder / "latin").write_bytes(b'{"e": "\xe9"}')
    os.mkfifo(folder / "fifo")
    assert agent.others(OURS) == [{"a": 1}, {"b": 2}]


def test_it_knows_a_file_when_its_copy_says_the_same(home: Path, agent: CloudWatchAgent, tmp_path: Path) -> None:
    path = tmp_path / "ours.json"
    path.write_text('{"a": 1}')
    assert not agent.has(str(path))
    Path(agent.copy_of(str(path))).write_text(json.dumps({"a": 1}, indent=4))
    assert agent.has(str(path))
    path.write_text('{"a": 2}')
    assert not agent.has(str(path))


def test_it_is_asked_to_forget_only_what_it_knows(home: Path, agent: CloudWatchAgent) -> None:
    command = agent.remove_command(OURS)
    assert subprocess.run(command, check=False).returncode == 0
    assert not (home / "calls").exists()
    Path(agent.copy_of(OURS)).write_text("{}")
    assert subprocess.run(command, check=False).returncode == 0
    assert (home / "calls").read_text() == f"-a remove-config -m ec2 -c file:{OURS} -s\n"
    Path(agent.control).unlink()
    assert subprocess.run(command, check=False).returncode == 0
