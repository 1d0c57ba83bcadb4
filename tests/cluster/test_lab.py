"""The private cluster itself: it is real, it changes nothing on the host, and nothing of it stays."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.cluster import Cluster
from lab.errors import LabError
from lab.images import make_image

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a private cluster takes namespaces and mounts: run as root")

START_LIMIT_S = 10  # about 0.5 s on a quiet machine

# A process that starts a cluster, says which namespaces are its, has a child that outlives it, and is then killed.
OWNER = """
import os, sys, time
from pathlib import Path
from lab.cluster import Cluster

cluster = Cluster.start(Path(sys.argv[1]), nodes=1)
cluster.sbatch("#!/bin/sh\\nsrun sleep 1000")
cluster.wait_until(lambda: "R" in cluster.run_on("head", ["squeue", "--noheader", "--format=%t"]).stdout, "job running")
if os.fork() == 0:
    os.close(1)
    time.sleep(20)
    os._exit(0)
print(*(os.readlink(f"/proc/{node.pid}/ns/pid") for node in cluster.machines), flush=True)
time.sleep(1000)
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes with nothing of the product on them."""
    with Cluster.start(tmp_path_factory.mktemp("plain"), nodes=2, gpus=2) as cluster:
        yield cluster


def process_namespace(pid: int | str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:  # it has ended
        return ""


def processes_in(namespaces: set[str]) -> list[str]:
    return [entry for entry in os.listdir("/proc") if entry.isdigit() and process_namespace(entry) in namespaces]


def mounts(folder: Path) -> list[str]:
    """The host's mounts that a cluster in that folder could have left."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if str(folder) in line or " /fsx" in line]


def listing(*folders: str) -> set[str]:
    return {f"{folder}/{name}" for folder in folders if os.path.isdir(folder) for name in os.listdir(folder)}


def becomes_true(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_two_nodes_are_idle_within_seconds(tmp_path: Path) -> None:
    began = time.monotonic()
    with Cluster.start(tmp_path, nodes=2) as cluster:
        assert time.monotonic() - began < START_LIMIT_S
        assert cluster.node_states() == {"n1": "idle", "n2": "idle"}
        assert cluster.release >= (22, 5)


def test_a_user_runs_a_job_on_both_nodes(cluster: Cluster) -> None:
    job = cluster.sbatch("#!/bin/sh\nsrun sh -c 'echo $(id -un) on $(hostname) as $SLURMD_NODENAME'", "--nodes=2")
    assert cluster.wait(job) == "COMPLETED", cluster.report()
    assert sorted(job.output.splitlines()) == ["ada on n1 as n1", "ada on n2 as n2"]


def test_both_users_exist_on_the_nodes_only(cluster: Cluster) -> None:
    assert [cluster.srun("id", "-u", user=user).stdout.strip() for user in ("ada", "bob")] == ["2001", "2002"]
    assert not {"ada", "bob"} & {line.split(":")[0] for line in Path("/etc/passwd").read_text().splitlines()}


def test_every_task_of_an_array_has_its_output(cluster: Cluster) -> None:
    job = cluster.sbatch("#!/bin/sh\necho task $SLURM_ARRAY_TASK_ID", "--array=0-2")
    assert cluster.wait(job) == "COMPLETED"
    assert sorted(job.output.splitlines()) == ["task 0", "task 1", "task 2"]


def test_fsx_is_one_folder_for_all_nodes(cluster: Cluster) -> None:
    (cluster.fsx / "from-host").write_text("seen")
    assert {cluster.run_on(node.name, ["cat", "/fsx/from-host"]).stdout for node in cluster.machines} == {"seen"}
    cluster.run_on("n1", ["touch", "/fsx/from-n1"])
    assert cluster.nodes["n2"].path("/fsx/from-n1").exists()
    assert not os.path.exists("/fsx/from-n1")


def test_what_a_node_writes_is_seen_by_that_node_alone(cluster: Cluster) -> None:
    folders = ("/etc", "/run", "/usr/local/lib", "/opt", "/var/lib", "/root", "/dev", "/home")
    paths = [f"{folder}/of-a-node-of-the-lab" for folder in folders]
    assert cluster.run_on("n1", ["touch", *paths]).returncode == 0
    assert all(cluster.nodes["n1"].path(path).exists() for path in paths)
    assert not [path for path in paths if cluster.nodes["n2"].path(path).exists() or os.path.exists(path)]


def test_the_checkout_cannot_be_changed_from_a_node(cluster: Cluster, checkout: Path) -> None:
    result = cluster.run_on("n1", ["touch", str(checkout / "of-a-node")])
    assert "Read-only file system" in result.stderr


def test_a_node_sees_its_own_processes_and_no_network_but_loopback(cluster: Cluster) -> None:
    assert cluster.run_on("n1", ["ps", "-o", "pid=", "-C", "slurmctld"]).stdout == ""
    devices = cluster.run_on("n1", ["ls", "/sys/class/net"]).stdout  # /sys is the host's; sockets tell the truth
    assert "lo" in devices
    lines = cluster.run_on("n1", ["cat", "/proc/net/dev"]).stdout.splitlines()[2:]
    assert [line.split(":")[0].strip() for line in lines] == ["lo"]


def test_prolog_sees_the_pretended_gpus(cluster: Cluster) -> None:
    script = cluster.slurm_etc / "prolog.d/50-gpus"
    script.write_text('#!/bin/sh\necho "$SLURM_JOB_GPUS" >/run/gpus\n')
    script.chmod(0o755)
    try:
        cluster.srun("--nodelist=n1", "--gres=gpu:2", "true")
        assert cluster.nodes["n1"].path("/run/gpus").read_text() == "0,1\n"
    finally:
        script.unlink()


def test_syslog_is_kept_by_node(cluster: Cluster) -> None:
    cluster.run_on("n2", ["logger", "--tag", "prolog", "--priority", "user.warning", "two\nlines"])
    node = cluster.nodes["n2"]
    cluster.wait_until(lambda: any(line.program == "prolog" for line in node.syslog), "line in syslog")
    said = [line for line in node.syslog if line.program == "prolog"]
    assert [(line.node, line.severity) for line in said] == [("n2", "warning")] * len(said)
    assert not [line for line in cluster.nodes["n1"].syslog if line.program == "prolog"]


def test_user_namespaces_work_for_users(cluster: Cluster) -> None:
    arguments = ["bwrap", "--ro-bind", "/", "/", "--unshare-all", "--proc", "/proc", "--dev", "/dev", "id", "-u"]
    result = cluster.srun(*arguments)
    assert result.stdout == "2001\n", result.stderr


def test_users_mount_by_fusermount(cluster: Cluster) -> None:
    make_image(cluster.fsx / "containers/small.sqsh", {"GREETING": "hello"})
    script = """
        set -e
        mkdir -p mnt
        squashfuse /fsx/containers/small.sqsh mnt
        grep GREETING mnt/etc/environment
        fusermount3 -u mnt
    """
    result = cluster.srun("sh", "-c", script)
    assert result.stdout == "GREETING=hello\n", result.stderr


def test_an_image_holds_its_environment_and_files(tmp_path: Path) -> None:
    image = make_image(tmp_path / "image.sqsh", {"A": "1"}, {"usr/lib/libnccl.so.2": "library"})
    for name, text in (("etc/environment", b"A=1\n"), ("usr/lib/libnccl.so.2", b"library")):
        listed = subprocess.run(["unsquashfs", "-cat", image, name], stdout=subprocess.PIPE, check=True)
        assert text in listed.stdout


def test_a_command_that_takes_too_long_is_killed(cluster: Cluster) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        cluster.run_on("n1", ["sleep", "1234"], timeout_s=0.3)
    gone = lambda: "1234" not in cluster.run_on("n1", ["ps", "-C", "sleep", "-o", "args="]).stdout  # noqa: E731
    assert becomes_true(gone, 5)


def test_a_hung_fsx_holds_processes_beyond_sigkill(cluster: Cluster) -> None:
    node = cluster.nodes["n1"]
    node.hang_fsx()
    try:
        stuck = node.start_daemon("stuck", ["cat", "/fsx/from-host"])
        time.sleep(0.2)
        os.kill(stuck.pid, signal.SIGKILL)
        assert becomes_true(lambda: ") D " in Path(f"/proc/{stuck.pid}/stat").read_text(), 5)
        assert stuck.is_running
        assert cluster.run_on("n2", ["ls", "/fsx"]).returncode == 0
        assert cluster.srun("--nodelist=n1", "hostname").stdout == "n1\n"
    finally:
        node.heal_fsx()
    assert becomes_true(lambda: not stuck.is_running, 5)
    assert node.run(["ls", "/fsx"]).returncode == 0


def test_a_killable_hang_ends_by_sigkill(cluster: Cluster) -> None:
    node = cluster.nodes["n2"]
    node.hang_fsx(killable=True)
    try:
        stuck = node.start_daemon("stuck", ["ls", "/fsx"])
        time.sleep(0.2)
        assert stuck.is_running
        stuck.stop(signal.SIGKILL)
    finally:
        node.heal_fsx()
    assert node.run(["ls", "/fsx"]).returncode == 0


def test_a_job_survives_its_slurmd(cluster: Cluster) -> None:
    job = cluster.sbatch("#!/bin/sh\necho started\nsleep 2\necho survived", "--nodelist=n2")
    cluster.wait_until(lambda: "started" in job.output, "job running")  # a slurmd that dies in between loses the job
    cluster.slurmd("n2").stop(signal.SIGKILL)
    cluster.start_slurmd("n2")
    assert cluster.wait(job) == "COMPLETED", cluster.report()
    assert job.output == "started\nsurvived\n"


def test_a_controller_comes_back(cluster: Cluster) -> None:
    cluster.slurmctld.stop()
    cluster.start_slurmctld()
    answers = lambda: "is UP" in cluster.run_on("head", ["scontrol", "ping"]).stdout  # noqa: E731
    cluster.wait_until(answers, "slurmctld running")
    cluster.wait_until_idle()
    assert cluster.srun("hostname", "-s").returncode == 0


def test_a_node_reboots_without_what_it_held(cluster: Cluster) -> None:
    cluster.wait_until_idle()
    cluster.nodes["n1"].write("/run/slurm-fsx/jobs/1.env", "left behind")
    cluster.reboot("n1")
    cluster.wait_until_idle()
    assert not cluster.nodes["n1"].path("/run/slurm-fsx").exists()
    assert cluster.srun("--nodelist=n1", "hostname").stdout == "n1\n"


def test_the_host_is_as_it_was(tmp_path: Path) -> None:
    watched = ("/", "/etc", "/etc/slurm", "/run", "/var/lib", "/var/log", "/var/spool", "/dev", "/home", "/opt", "/usr")
    before = mounts(tmp_path), listing(*watched)
    cluster = Cluster.start(tmp_path, nodes=2)
    namespaces = {process_namespace(node.pid) for node in cluster.machines}
    while_running = mounts(tmp_path), listing(*watched)
    cluster.sbatch("#!/bin/sh\nsrun sleep 1000", "--nodes=2")
    cluster.nodes["n1"].hang_fsx()
    cluster.nodes["n1"].start_daemon("stuck", ["ls", "/fsx"])
    assert len(processes_in(namespaces)) >= 9  # of each node its first process and its daemon, munged, ...
    cluster.stop()
    assert processes_in(namespaces) == []
    assert before == while_running == (mounts(tmp_path), listing(*watched))
    shutil.rmtree(tmp_path)  # nothing is mounted in there


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_nothing_is_left_of_a_run_that_was_killed(tmp_path: Path, checkout: Path, number: signal.Signals) -> None:
    before = mounts(tmp_path)
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, tmp_path],
        cwd=checkout,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        assert owner.stdout is not None
        namespaces = set(owner.stdout.readline().split())
        assert len(namespaces) == 2
        os.kill(owner.pid, number)
        owner.wait(10)
        assert becomes_true(lambda: not processes_in(namespaces), 10)
    finally:
        os.killpg(owner.pid, signal.SIGKILL)  # the child that outlived it
        owner.wait()
        owner.stdout.close()
    assert mounts(tmp_path) == before
    with Cluster.start(tmp_path, nodes=1) as cluster:
        assert cluster.srun("hostname").stdout == "n1\n"


def test_clusters_run_side_by_side(tmp_path: Path, cluster: Cluster) -> None:
    with Cluster.start(tmp_path, nodes=1) as other:
        assert other.srun("hostname").stdout == "n1\n"
        assert cluster.srun("--nodes=2", "true").returncode == 0
        assert sorted(other.node_states()) == ["n1"]


def test_a_folder_holds_one_cluster_at_a_time(cluster: Cluster) -> None:
    with pytest.raises(LabError, match=r"runs in .* already"):
        Cluster.start(cluster.folder)
    assert cluster.srun("true").returncode == 0


def test_a_cluster_that_cannot_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    before = mounts(tmp_path)
    with pytest.raises(LabError, match="NoSuchSetting"):
        Cluster.start(tmp_path, nodes=1, slurm_conf={"NoSuchSetting": "1"})
    assert mounts(tmp_path) == before


def test_installed_packages_are_not_installed_again(tmp_path: Path, checkout: Path) -> None:
    apt = tmp_path / "apt-get"
    apt.write_text("#!/bin/sh\necho apt-get was called >&2\nexit 100\n")
    apt.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin"}
    done = subprocess.run([checkout / "lab/install-packages"], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
