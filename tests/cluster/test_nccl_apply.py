"""Running nodes brought to the installed NCCL by srun, on real Slurm: with nodes in every kind of trouble."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cluster import Cluster
from lab.nccl import install_nccl
from lab.nccl_version import VERSION, install_version

from .conftest import COMMAND, SYSTEM

SEEN = f"NCCL {VERSION}"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, installation: Path) -> Iterator[Cluster]:
    """A cluster of four nodes with an NCCL version."""
    with Cluster.start(tmp_path_factory.mktemp("apply"), nodes=4, installation=installation, system=SYSTEM) as cluster:
        install_nccl(cluster.fsx)
        install_version(cluster.fsx)
        yield cluster


@pytest.fixture
def cluster(running: Cluster) -> Iterator[Cluster]:
    """The cluster, whose nodes have nothing of ours; afterwards all in order again."""
    for node in running.machines:
        node.path("/etc/profile.d/nccl-shared.sh").unlink(missing_ok=True)
        node.path("/var/lib/slurm-fsx/nccl/apply.json").unlink(missing_ok=True)
    yield running
    running.head.run(["scancel", "--full", "--user=ada"])
    running.resume(*running.nodes)


def apply(cluster: Cluster, *options: str) -> subprocess.CompletedProcess[str]:
    return cluster.run_on("head", [COMMAND, "nccl", "apply", *options])


def table(done: subprocess.CompletedProcess[str]) -> list[list[str]]:
    """Give the rows: nodes, result, message."""
    lines = done.stdout.splitlines()
    starts = [lines[0].index(title) for title in ("nodes", "result", "message")] + [None]
    return [[line[a:b].strip() for a, b in zip(starts, starts[1:])] for line in lines[1:]]


def results(done: subprocess.CompletedProcess[str]) -> dict[str, tuple[str, str]]:
    return {each["node"]: (each["outcome"], each["message"]) for each in json.loads(done.stdout)}


def test_all_nodes_get_what_they_need_and_a_second_run_changes_nothing(cluster: Cluster) -> None:
    dry = apply(cluster, "--dry-run")
    assert (dry.returncode, table(dry)) == (0, [["n[1-4]", "to do", "would be reached by srun"]])
    target = cluster.nodes["n1"].path("/etc/profile.d/nccl-shared.sh")
    assert not target.exists()

    done = apply(cluster)
    assert (done.returncode, done.stderr) == (0, "")
    assert table(done) == [["n[1-4]", "ok", f"put /etc/profile.d/nccl-shared.sh; {SEEN}"]]
    share = "/opt/slurm-fsx/share/slurm-fsx/profile.d/nccl-shared.sh"
    for node in cluster.nodes.values():
        put = node.path("/etc/profile.d/nccl-shared.sh")
        assert put.read_text() == cluster.run_on("head", ["cat", share]).stdout
        assert (put.stat().st_mode & 0o777, put.stat().st_uid) == (0o644, 0)
    before = target.stat()

    again = apply(cluster)
    assert table(again) == [["n[1-4]", "ok", f"in place; {SEEN}"]]
    assert target.stat().st_mtime_ns == before.st_mtime_ns
    # Slurm and we mean the same by a set of nodes.
    some = apply(cluster, "--nodes=n[1-2,4]", "--dry-run")
    assert table(some)[0][0] == "n[1-2,4]"
    names = cluster.run_on("head", ["scontrol", "show", "hostlist", "n1,n2,n4"]).stdout.strip()
    assert names == "n[1-2,4]"


def test_enroots_mount_is_put_where_enroot_is(cluster: Cluster) -> None:
    etc = cluster.nodes["n2"].path("/etc/enroot")
    cluster.nodes["n2"].write("/etc/enroot/enroot.conf", "")
    done = apply(cluster, "--nodes=n[2-3]")
    assert done.returncode == 0
    fragments = list((etc / "mounts.d").iterdir())
    assert len(fragments) == 1
    assert "/fsx/nccl" in fragments[0].read_text()
    # enroot runs its hooks as programs, and none that is not one.
    assert {hook.stat().st_mode & 0o777 for hook in (etc / "hooks.d").iterdir()} == {0o755}
    assert not cluster.nodes["n3"].path("/etc/enroot").exists()


def test_nodes_in_trouble_are_named_and_done_when_they_are_mended(cluster: Cluster) -> None:
    state = cluster.head.path("/var/lib/slurm-fsx/nccl/apply.json")
    cluster.run_on("head", ["scontrol", "update", "NodeName=n1", "State=DOWN", "Reason=test"])
    cluster.slurmd("n2").pause()
    blocked = cluster.nodes["n3"].path("/etc/profile.d/nccl-shared.sh")
    blocked.mkdir()

    try:
        done = apply(cluster, "--timeout=4")
        assert done.returncode == 3
        *rows, blocked_row = table(done)
        assert rows == [
            ["n4", "ok", f"put /etc/profile.d/nccl-shared.sh; {SEEN}"],
            ["n1", "not tried", "down: not tried"],
            ["n2", "timed out", "no answer in time"],
        ]
        assert blocked_row[:2] == ["n3", "failed"]
        assert blocked_row[2] == "/etc/profile.d/nccl-shared.sh: Is a directory"
        assert "3 of 4 nodes are not done: n[1-3]" in done.stderr
        assert json.loads(state.read_text())["unfinished"] == ["n1", "n2", "n3"]
        assert not cluster.run_on("head", ["squeue", "--noheader", "--states=PENDING,RUNNING"]).stdout

        # Nothing has changed: none of those is done.
        assert apply(cluster, "--failed", "--timeout=2").returncode == 1
    finally:
        cluster.slurmd("n2").go_on()
        blocked.rmdir()
    cluster.resume("n1", "n2")
    again = apply(cluster, "--failed")
    assert (again.returncode, {row[1] for row in table(again)}) == (0, {"ok"})
    nothing = apply(cluster, "--failed")
    assert (nothing.returncode, nothing.stderr) == (0, "no node is left to do\n")


def test_a_node_that_jobs_fill_is_not_waited_for_and_its_job_goes_on(cluster: Cluster) -> None:
    job = cluster.sbatch("#!/bin/sh\necho started\nsleep 300\n", "--exclusive", "--nodelist=n1")
    cluster.sbatch("#!/bin/sh\nsleep 300\n", "--nodelist=n2")
    cluster.wait_until(lambda: cluster.node_states()["n2"] == "mixed" and "started" in job.output, "both jobs running")
    done = apply(cluster, "--json")
    found = results(done)
    assert done.returncode == 3
    assert found["n1"] == ("busy", "jobs fill it: run this again with --failed later, or with --by ssh")
    assert {found[name][0] for name in ("n2", "n3", "n4")} == {"ok"}
    assert cluster.show_job(job)[0]["JobState"] == "RUNNING"
    cluster.cancel(job)
    assert apply(cluster, "--failed").returncode == 0


def test_with_the_shared_file_system_away_each_node_says_so_and_its_own_part_is_done(cluster: Cluster) -> None:
    hung = ("n1", "n3")
    for name in hung:
        cluster.nodes[name].hang_fsx()
    try:
        done = apply(cluster)
        assert done.returncode == 3
        assert table(done) == [
            ["n[2,4]", "ok", f"put /etc/profile.d/nccl-shared.sh; {SEEN}"],
            ["n[1,3]", "failed", "/fsx did not answer within 2 s; see whether its file server is up"],
        ]
    finally:
        for name in hung:
            cluster.nodes[name].heal_fsx()
    assert cluster.nodes["n1"].path("/etc/profile.d/nccl-shared.sh").exists()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        pytest.param("rm current", "there is no /fsx/nccl/current: run slurm-fsx nccl install", id="no version"),
        pytest.param("ln -sfn versions/9 current", "leads to versions/9, which is not there", id="dangling"),
        pytest.param("ln -sfn ../.. current", "which is no version", id="elsewhere"),
        pytest.param("chmod 700 versions/*/lib", "users cannot read /fsx/nccl/current/lib", id="closed"),
        pytest.param("chown 2001 versions/*/manifest.json", "belongs to user 2001", id="a user's"),
    ],
)
def test_a_version_that_jobs_cannot_use_is_named(cluster: Cluster, damage: str, said: str) -> None:
    folder = cluster.fsx / "nccl"
    subprocess.run(["sh", "-c", damage], cwd=folder, check=True)
    try:
        done = apply(cluster, "--nodes=n1")
    finally:
        subprocess.run(
            ["sh", "-c", "ln -sfn versions/2* current; chmod 755 versions/*/lib; chown 0 versions/*/*.json"],
            cwd=folder,
            check=True,
        )
    assert done.returncode == 1
    assert said in table(done)[0][2]


def test_only_root_applies_and_a_strange_node_is_refused(cluster: Cluster) -> None:
    done = cluster.run_on("head", [COMMAND, "nccl", "apply"], "ada")
    assert (done.returncode, "only root can change" in done.stderr) == (1, True)
    strange = apply(cluster, "--nodes=n[3-5]")
    assert (strange.returncode, "Slurm has no node n5" in strange.stderr) == (2, True)
    hostile = apply(cluster, "--nodes=n1;reboot")
    assert (hostile.returncode, "is no set of nodes" in hostile.stderr) == (2, True)


def test_the_documented_script_is_the_same_command(cluster: Cluster) -> None:
    script = "/opt/slurm-fsx/share/slurm-fsx/scripts/apply-nccl-to-running-nodes.sh"
    done = cluster.run_on("head", ["bash", script, "--dry-run", "--nodes=n2"])
    assert (done.returncode, table(done)) == (0, [["n2", "to do", "would be reached by srun"]])


@pytest.fixture
def ssh(cluster: Cluster, tmp_path: Path) -> None:
    """Root of the head node can log in to all nodes by a key, as nobody has to type; n4 has no sshd."""
    if not (SYSTEM / "usr/sbin/sshd").exists():
        pytest.skip("needs openssh-server")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    host_key = (tmp_path / "host.pub").read_text()
    cluster.head.write("/root/.ssh/id_ed25519", (tmp_path / "user").read_text(), 0o600)
    cluster.head.write("/root/.ssh/known_hosts", f"n* {host_key}", 0o600)
    cluster.head.path("/root/.ssh").chmod(0o700)
    for name in ("n1", "n2", "n3"):
        node = cluster.nodes[name]
        passwd = node.path("/etc/passwd")
        if "sshd:" not in passwd.read_text():
            passwd.write_text(f"{passwd.read_text()}sshd:x:120:65534::/run/sshd:/usr/sbin/nologin\n")
        node.path("/run/sshd").mkdir(exist_ok=True)
        node.write("/etc/ssh/host_key", (tmp_path / "host").read_text(), 0o600)
        node.write("/root/.ssh/authorized_keys", (tmp_path / "user.pub").read_text(), 0o600)
        node.path("/root/.ssh").chmod(0o700)
        # The lab's nodes share a network: each listens at its own address.
        settings = f"ListenAddress {name}\nHostKey /etc/ssh/host_key\nUsePAM no\nPidFile none\n"
        node.write("/etc/ssh/sshd_config", settings + "PermitRootLogin prohibit-password\n")
        node.start_daemon("sshd", ["/usr/sbin/sshd", "-D", "-e"])
    cluster.wait_until(
        lambda: all(cluster.run_on("head", ["ssh", name, "true"]).returncode == 0 for name in ("n1", "n2", "n3")),
        "root can log in to the nodes",
    )


@pytest.mark.usefixtures("ssh")
def test_by_ssh_drained_and_busy_nodes_are_done_too(cluster: Cluster) -> None:
    job = cluster.sbatch("#!/bin/sh\necho started\nsleep 300\n", "--exclusive", "--nodelist=n1")
    cluster.wait_until(lambda: "started" in job.output, "the job running")
    cluster.run_on("head", ["scontrol", "update", "NodeName=n2", "State=DRAIN", "Reason=test"])
    done = apply(cluster, "--by=ssh", "--timeout=20")
    assert done.returncode == 3
    rows = table(done)
    assert rows[0] == ["n[1-3]", "ok", f"put /etc/profile.d/nccl-shared.sh; {SEEN}"]
    assert rows[1][:2] == ["n4", "failed"]
    assert "ended with 255: ssh: connect to host" in rows[1][2]
    assert cluster.show_job(job)[0]["JobState"] == "RUNNING"
    # Nodes that are named can be reached while Slurm's controller is away.
    cluster.slurmctld.stop()
    try:
        alone = apply(cluster, "--by=ssh", "--nodes=n[1-2]")
    finally:
        cluster.start_slurmctld()
        cluster.wait_until(lambda: "is UP" in cluster.run_on("head", ["scontrol", "ping"]).stdout, "slurmctld")
    assert (alone.returncode, table(alone)) == (0, [["n[1-2]", "ok", f"in place; {SEEN}"]])


def test_an_interrupted_run_leaves_no_job_behind(cluster: Cluster) -> None:
    for name in ("n1", "n2"):
        cluster.slurmd(name).pause()
    try:
        code = (
            "import os, signal, threading, time\n"
            "from slurm_fsx_tools.cli.main import main\n"
            "threading.Timer(3, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
            "import sys; sys.argv[1:] = ['nccl', 'apply', '--nodes=n[1-2]', '--timeout=60']\n"
            "main()\n"
        )
        done = cluster.run_on("head", ["/opt/slurm-fsx/bin/python3", "-c", code])
        assert done.returncode == 130, done.stderr
        left = ["squeue", "--noheader", "--states=PENDING,RUNNING"]
        cluster.wait_until(lambda: not cluster.run_on("head", left).stdout, "no job left")
        assert cluster.run_on("head", ["pgrep", "srun"]).stdout == ""
    finally:
        for name in ("n1", "n2"):
            cluster.slurmd(name).go_on()
