"""Machines of the kinds that set-up meets: ParallelCluster's head and compute nodes, Debian's packages, and ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurm_fsx_tools.provision.installation import Installation
from slurm_fsx_tools.provision.slurm_conf import SlurmConf, find_slurm_conf, read_slurm_conf
from slurm_fsx_tools.provision.steps import Outcome, Record, Step, apply, undo

# As ParallelCluster 3 lays them out; Slurm's own values are left out where set-up does not read them.
PARALLELCLUSTER = {
    "opt/slurm/etc/slurm.conf": """\
# slurm.conf is managed by the pcluster processes.
ClusterName=parallelcluster
SlurmUser=slurm
ProctrackType=proctrack/cgroup
# PROLOGS AND EPILOGS
Include slurm_parallelcluster.conf
include /opt/slurm/etc/missing.conf
""",
    "opt/slurm/etc/slurm_parallelcluster.conf": """\
SlurmctldHost=ip-10-0-0-1(10.0.0.1)
SuspendTimeout=120
Prolog=/opt/slurm/etc/scripts/prolog.d/*
Epilog=/opt/slurm/etc/scripts/epilog.d/*
PrologFlags=Alloc
NodeName=DEFAULT State=CLOUD
""",
    "opt/slurm/etc/scripts/prolog.d/90_pcluster_health_check_manager": "#!/bin/bash\n",
    "opt/slurm/etc/scripts/epilog.d/90_pcluster_noop": "#!/bin/bash\n",
    "opt/slurm/etc/plugstack.conf": "include /opt/slurm/etc/plugstack.conf.d/*\n",
    "opt/slurm/etc/plugstack.conf.d/pyxis.conf": "required /opt/slurm/lib/slurm/spank_pyxis.so runtime_path=/run/p\n",
    "etc/enroot/enroot.conf": "ENROOT_RUNTIME_PATH /run/enroot\n",
}
EVERYWHERE = ("/etc/profile.d", "/etc/systemd/system", "/run", "/usr/local/bin", "/usr/local/share", "/var/lib")
DEBIAN = {
    "etc/slurm/slurm.conf": "ClusterName=debian\nSlurmctldHost=head\nNodeName=n[1-2]\nPartitionName=all Nodes=ALL\n",
    "etc/slurm/plugstack.conf": "# include all SPANK plugins\ninclude /etc/slurm/plugstack.conf.d/*\n",
    "etc/slurm/plugstack.conf.d/README": "# nothing yet\n",
}


class Machine:
    """A root folder, and what set-up does below it."""

    def __init__(self, root: Path, files: dict[str, str]) -> None:
        self.root = root
        for folder in EVERYWHERE:
            self.path(folder).mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            self.write(path, text)

    def path(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def write(self, path: str, text: str) -> None:
        self.path(path).parent.mkdir(parents=True, exist_ok=True)
        self.path(path).write_text(text)

    def read(self, path: str) -> str:
        return self.path(path).read_text()

    @property
    def conf(self) -> SlurmConf:
        return read_slurm_conf(find_slurm_conf(str(self.root)), str(self.root))

    def apply(self, steps: list[Step], what: str = "test") -> Outcome:
        with Record.open(what, str(self.root)) as record:
            return apply(steps, record)

    def undo(self, what: str = "test") -> Outcome:
        with Record.open(what, str(self.root)) as record:
            return undo(record)

    def tree(self) -> dict[str, tuple[int, bytes | None]]:
        found = {}
        for path in self.root.rglob("*"):
            where = path.relative_to(self.root).as_posix()
            if where != "var" and not where.startswith("var/lib"):
                found[where] = (path.lstat().st_mode, path.read_bytes() if path.is_file() else None)
        return found


@pytest.fixture
def parallelcluster(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "root", PARALLELCLUSTER)


@pytest.fixture
def debian(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "root", DEBIAN)


@pytest.fixture
def installation(tmp_path: Path, checkout: Path) -> Installation:
    """What `make install` leaves, for set-up in another root."""
    share = tmp_path / "share"
    share.mkdir()
    for name in ("enroot", "profile.d", "systemd"):
        (share / name).symlink_to(checkout / "share" / name)
    (share / "containers.txt").write_bytes((checkout / "share/containers.txt").read_bytes())
    for name in ("prolog.d", "epilog.d", "scripts"):
        (share / name).symlink_to(checkout / name)
    return Installation("/opt/slurm-fsx", str(share))
