"""Two hundred nodes over ssh: a program called ssh, which runs the command here, stands in for the network."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from slurm_fsx_tools.errors import SlurmFsxError
from slurm_fsx_tools.provision.rollout import Answer, NodeResult, gather, last_words, roll_out
from slurm_fsx_tools.provision.ssh import Ssh
from slurm_fsx_tools.slurm_state import SlurmNode

SSH = """\
#!/bin/sh
# ssh OPTION... HOST COMMAND; hosts whose number ends with 13 hang, or with 77 refuse.
while :; do case $1 in -*) shift ;; *) break ;; esac; done
echo "$1 $$" >>{log}
ls {running} | wc -l >>{counts}
touch {running}/$$
case $1 in
*13) exec sleep 1000 ;;
*77) echo "ssh: connect to host $1 port 22: Connection refused" >&2; code=255 ;;
*) NODE=$1 sh -c "$2"; code=$? ;;
esac
rm -f {running}/$$
exit "$code"
"""


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a log of the calls, one of those that run, and how many these were at each start."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "running").mkdir()
    names = {name: tmp_path / name for name in ("log", "running", "counts")}
    (tmp_path / "bin/ssh").write_text(SSH.format(**names))
    (tmp_path / "bin/ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    return tmp_path


def read(answer: Answer) -> NodeResult:
    if answer.code == 0:
        return NodeResult(answer.node, "ok", answer.output.strip())
    return NodeResult(answer.node, "failed", last_words(answer))


def test_of_two_hundred_nodes_ten_that_hang_keep_nobody_waiting(network: Path) -> None:
    nodes = [SlurmNode(f"n{number}", "idle") for number in range(100, 290)]
    nodes += [SlurmNode(f"h{number}13", "idle") for number in range(1, 11)]
    told: list[NodeResult] = []
    results = roll_out(nodes, ["echo", "it's", "$NODE; exit 1"], Ssh(64, 6), read, told.append)
    assert len(told) == len(results) == 200
    assert gather(results) == [
        ("n[100-112,114-176,178-212,214-276,278-289]", "ok", "it's $NODE; exit 1"),
        ("h[113,213,313,413,513,613,713,813,913,1013],n[113,213]", "timed out", "no answer in time"),
        ("n[177,277]", "failed", "ended with 255: ssh: connect to host it port 22: Connection refused"),
    ]
    calls = dict(line.split() for line in (network / "log").read_text().splitlines())
    assert len(calls) == 200
    for hung in (name for name in calls if name.endswith("13")):
        assert not Path(f"/proc/{calls[hung]}").exists(), f"ssh to {hung} is left behind"


def test_no_more_nodes_than_allowed_are_worked_on_at_a_time(network: Path) -> None:
    nodes = [SlurmNode(f"a{number}", "idle") for number in range(20, 50)]
    results = roll_out(nodes, ["sleep", "0.05"], Ssh(4, 20), read, lambda _: None)
    assert {result.outcome for result in results} == {"ok"}
    running_before = [int(line) for line in (network / "counts").read_text().split()]
    assert len(running_before) == 30
    assert max(running_before) <= 3


def test_an_interrupted_rollout_leaves_no_ssh_behind(network: Path) -> None:
    code = (
        "from slurm_fsx_tools.provision.ssh import Ssh; from slurm_fsx_tools.slurm_state import SlurmNode\n"
        "Ssh(4, 60).run([SlurmNode(f'h{n}13', 'idle') for n in range(8)], ['true'], print)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as process:
        log = network / "log"
        deadline = time.monotonic() + 60
        while not log.exists() or len(log.read_text().splitlines()) < 4:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(2)
        assert process.wait(30) != 0
    calls = [line.split()[1] for line in log.read_text().splitlines()]
    assert len(calls) == 4
    assert not [pid for pid in calls if Path(f"/proc/{pid}").exists()]


def test_without_clustershell_the_admin_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ClusterShell.Task", None)  # what Python takes for a module that is not there
    with pytest.raises(SlurmFsxError, match=r"ClusterShell, which is not installed; run: pip install .*\[cluster\]"):
        Ssh(1, 1)
