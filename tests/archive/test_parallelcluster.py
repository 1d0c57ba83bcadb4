"""The scripts of examples/parallelcluster, as OnNodeConfigured runs them, on machines laid out as ParallelCluster's."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lab.node import Node
from lab.node_root import Bind, RootPlan

EXAMPLES = Path("/opt/parallelcluster/examples")
SCRIPTS = Path("/opt/slurm/etc/scripts")
PLUGSTACK = Path("/opt/slurm/etc/plugstack.conf.d")
# Source: AWS ParallelCluster's cookbook 3.11, its templates of slurm.conf and its examples of enroot and Pyxis.
SLURM = {
    "etc/slurm.conf": "ClusterName=parallelcluster\nSlurmUser=slurm\nInclude slurm_parallelcluster.conf\n",
    "etc/slurm_parallelcluster.conf": """\
SlurmctldHost=ip-10-0-0-1(10.0.0.1)
SuspendTimeout=120
Prolog=/opt/slurm/etc/scripts/prolog.d/*
Epilog=/opt/slurm/etc/scripts/epilog.d/*
PrologFlags=Alloc
NodeName=gpu-dy-p5-[1-4] State=CLOUD
""",
    "etc/scripts/prolog.d/90_pcluster_health_check_manager": "#!/bin/bash\n",
    "etc/scripts/epilog.d/90_pcluster_noop": "#!/bin/bash\n",
}
PARALLELCLUSTER = {
    "examples/enroot/enroot.conf": "ENROOT_RUNTIME_PATH /run/enroot/user-$(id -u)\nENROOT_DATA_PATH /var/tmp/${UID}\n",
    "examples/spank/plugstack.conf": "include /opt/slurm/etc/plugstack.conf.d/*\n",
    "examples/pyxis/pyxis.conf": "required /opt/slurm/lib/slurm/spank_pyxis.so runtime_path=/run/pyxis\n",
}
CFNCONFIG = "stack_name=gpu\ncfn_node_type={}\ncfn_region=us-east-1\n"


def test_the_cluster_configuration_runs_these_scripts_in_their_order(checkout: Path) -> None:
    folder = checkout / "examples/parallelcluster"
    cluster = yaml.safe_load((folder / "cluster-config.yaml").read_text())
    assert [storage["MountDir"] for storage in cluster["SharedStorage"]] == ["/fsx"]
    scripts = {path.name for path in folder.glob("*.sh")}
    for machine, last in ((cluster["HeadNode"], "head.sh"), (cluster["Scheduling"]["SlurmQueues"][0], "compute.sh")):
        sequence = machine["CustomActions"]["OnNodeConfigured"]["Sequence"]
        assert [action["Script"].rpartition("/")[2] for action in sequence] == ["pyxis.sh", last]
        scripts.remove(last)
        bucket = machine["Iam"]["S3Access"][0]
        key = bucket["KeyName"].rstrip("*")
        for uri in (*(action["Script"] for action in sequence), *sequence[1]["Args"]):
            assert uri.startswith(f"s3://{bucket['BucketName']}/{key}")  # what the machine may read
    assert scripts == {"pyxis.sh"}


def test_each_script_is_short_enough_to_be_read_before_it_is_used(checkout: Path) -> None:
    for script in (checkout / "examples/parallelcluster").glob("*.sh"):
        assert len(script.read_text().splitlines()) < 30, script.name


class Machines:
    """A head node and a compute node; /opt/slurm and /fsx are the head node's, and both have them."""

    def __init__(self, folder: Path, scripts: Path) -> None:
        self.folder = folder
        self.fsx = folder / "fsx"
        self.slurm = folder / "slurm"
        for name in ("fsx", "slurm", "etc-slurm", "parallelcluster"):
            (folder / name).mkdir()
        for root, files in ((self.slurm, SLURM), (folder / "parallelcluster", PARALLELCLUSTER)):
            for name, text in files.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text)
        (self.fsx / "setup").mkdir()
        for script in scripts.iterdir():
            shutil.copy(script, self.fsx / "setup")
        self.head = self._make("ip-10-0-0-1")
        self.compute = self._make("gpu-dy-p5-1")
        for node, kind in ((self.head, "HeadNode"), (self.compute, "ComputeFleet")):
            node.start()
            node.write("/etc/parallelcluster/cfnconfig", CFNCONFIG.format(kind))
            node.write("/usr/bin/enroot", "#!/bin/sh\n", 0o755)

    def _make(self, name: str) -> Node:
        log, scratch = self.folder / "log" / name, self.folder / "scratch" / name
        log.mkdir(parents=True)
        scratch.mkdir(parents=True)
        binds = [
            Bind(str(log), "/var/log"),
            Bind(str(self.fsx), "/fsx"),
            Bind(str(self.slurm), "/opt/slurm"),
            Bind(str(self.folder / "etc-slurm"), "/etc/slurm"),
            Bind(str(self.folder / "parallelcluster"), "/opt/parallelcluster"),
        ]
        return Node(RootPlan(name, str(scratch), "/", binds, [], {name: "127.0.0.1"}, 0), log)

    def offer(self, archive: Path) -> str:
        """Put an archive and its sum on /fsx; give its path there."""
        shutil.copy(archive, self.fsx / "setup/slurm-fsx.tar.gz")
        shutil.copy(f"{archive}.sha256", self.fsx / "setup/slurm-fsx.tar.gz.sha256")
        return "/fsx/setup/slurm-fsx.tar.gz"

    def run(self, node: Node, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return node.run(["bash", f"/fsx/setup/{script}", *arguments], timeout_s=180)


@pytest.fixture
def machines(tmp_path: Path, checkout: Path) -> Iterator[Machines]:
    if os.geteuid() != 0:
        pytest.skip("machines of the lab take namespaces and mounts: run as root")
    made = Machines(tmp_path, checkout / "examples/parallelcluster")
    try:
        yield made
    finally:
        made.compute.stop()
        made.head.stop()


def test_the_scripts_set_up_a_head_node_and_then_a_compute_node(machines: Machines, archive: Path) -> None:
    offered = machines.offer(archive)
    # Images and Ubuntu's packages come from elsewhere, and the lab's nodes reach nobody.
    for script, arguments in (("pyxis.sh", []), ("head.sh", [offered, "--no-images", "--no-prometheus"])):
        done = machines.run(machines.head, script, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.name for path in (machines.slurm / "etc/scripts/prolog.d").iterdir()) == [
        "50-slurm-fsx",
        "90_pcluster_health_check_manager",
    ]
    assert sorted(path.name for path in (machines.slurm / "etc/plugstack.conf.d").iterdir()) == [
        "00-slurm-fsx-before.conf",
        "pyxis.conf",
        "zz-slurm-fsx-after.conf",
    ]
    assert (machines.fsx / "datasets").stat().st_mode & 0o7777 == 0o1777

    shared = {path: path.lstat().st_mtime_ns for path in machines.slurm.rglob("*")}
    for script, arguments in (("pyxis.sh", []), ("compute.sh", [offered])):
        done = machines.run(machines.compute, script, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "not set up whole" not in done.stderr
    assert {path: path.lstat().st_mtime_ns for path in machines.slurm.rglob("*")} == shared
    assert (
        "ENROOT_DATA_PATH /var/lib/enroot/data/user-$(id -u)"
        in machines.compute.path("/etc/enroot/enroot.conf").read_text()
    )
    prolog = [str(SCRIPTS / "prolog.d/50-slurm-fsx")]
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_UID": "0", "SLURM_JOB_USER": "root", "SLURMD_NODENAME": "gpu-dy-p5-1"}
    assert machines.compute.run(prolog, env=job).returncode == 0
    assert machines.compute.path("/run/slurm-fsx/jobs/7.env").exists()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        pytest.param("no archive", "slurm-fsx.tar.gz cannot be had", id="no-archive"),
        pytest.param("damaged", "is not what /fsx/setup/slurm-fsx.tar.gz.sha256 says", id="damaged"),
        pytest.param("no argument", "name the archive", id="no-argument"),
    ],
)
def test_a_head_node_fails_and_a_compute_node_never_does(
    machines: Machines, archive: Path, fault: str, said: str
) -> None:
    offered = machines.offer(archive)
    if fault == "damaged":
        (machines.fsx / "setup/slurm-fsx.tar.gz").write_bytes(b"no archive")
    elif fault == "no archive":
        (machines.fsx / "setup/slurm-fsx.tar.gz").unlink()
    arguments = [] if fault == "no argument" else [offered]
    head = machines.run(machines.head, "head.sh", *arguments)
    assert head.returncode != 0
    assert said in head.stderr
    compute = machines.run(machines.compute, "compute.sh", *arguments)
    assert compute.returncode == 0
    assert "not set up whole" in compute.stderr
    for node in (machines.head, machines.compute):
        assert not os.path.lexists(node.path("/opt/slurm-fsx"))
    assert "not set up whole" in machines.compute.syslog[-1].text


def test_without_the_archive_a_compute_node_is_set_up_by_what_its_image_has(machines: Machines, archive: Path) -> None:
    offered = machines.offer(archive)
    unpack = f"cd $(mktemp -d -p /root) && tar -xzf {offered} && sh slurm-fsx-*/install.sh"
    assert machines.compute.run(["sh", "-c", unpack]).returncode == 0
    (machines.fsx / "setup/slurm-fsx.tar.gz").unlink()
    done = machines.run(machines.compute, "compute.sh", offered)
    assert done.returncode == 0
    assert "not set up whole by /fsx/setup/slurm-fsx.tar.gz" in done.stderr
    assert machines.compute.path("/etc/profile.d/nccl-shared.sh").exists()


def test_an_image_without_pyxis_is_told(machines: Machines) -> None:
    shutil.rmtree(machines.folder / "parallelcluster/examples")
    done = machines.run(machines.head, "pyxis.sh")
    assert done.returncode == 0
    assert "has no Pyxis" in done.stderr
    assert not machines.head.path("/etc/enroot/enroot.conf").exists()
    assert not (machines.slurm / "etc/plugstack.conf").exists()
