"""A machine with a real systemd as its first process, for what set-up asks of one: services, units, packages.

It is this host's root folder under an overlay that nobody else sees, with namespaces of its own and no way out of its
network. It ends with its owner, or at the end of the ``with``.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from . import kernel
from .errors import LabError
from .node_root import fill_dev

SYSTEMD = Path("/lib/systemd/systemd")
START_TIMEOUT_S = 60.0

_UNSHARE = (
    *("unshare", "--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup"),
    *("--fork", "--kill-child=KILL"),
)
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_UP = ("running", "degraded")
_WITHOUT = (
    *("systemd-udevd.service", "systemd-udev-trigger.service", "systemd-logind.service", "systemd-networkd.service"),
    *("systemd-resolved.service", "getty.target", "apt-daily.timer", "apt-daily-upgrade.timer"),
    *("slurmd.service", "slurmctld.service", "munge.service"),
)
"""What needs hardware, or a network, or a cluster."""


class SystemdMachine:
    """A running one; `root` is its root folder as the host sees it."""

    def __init__(self, process: subprocess.Popen[bytes], pid: int) -> None:
        self._process = process
        self._pid = pid
        self.root = Path(f"/proc/{pid}/root")

    def run(self, *command: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command as root, and give what it said."""
        enter = ["nsenter", f"--target={self._pid}", "--all", "--root", "--wd=/"]
        return subprocess.run(
            [*enter, "env", "-i", f"PATH={_PATH}", "HOME=/root", *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )

    def path(self, path: str) -> Path:
        """Give where the host sees a path of the machine; one that is no link."""
        return self.root / path.lstrip("/")


@contextlib.contextmanager
def start_systemd(scratch: Path, installation: Path) -> Iterator[SystemdMachine]:
    """Start a machine, with a file system mounted at /fsx.

    Args:
        scratch: An empty folder.
        installation: The product, which it sees as /opt/slurm-fsx.

    Raises:
        LabError: this host has no systemd, or does not let one run.
    """
    if not SYSTEMD.exists():
        raise LabError(f"{SYSTEMD} is missing: apt-get install systemd")
    command = [*_UNSHARE, sys.executable, "-m", __name__, str(scratch), str(installation)]
    with open(scratch / "log", "wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=Path(__file__).parent.parent
        )
    try:
        yield _wait(process, scratch / "log")
    finally:
        process.kill()
        process.wait()


def _wait(process: subprocess.Popen[bytes], log: Path) -> SystemdMachine:
    end_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end_s and process.poll() is None:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if children and Path(f"/proc/{children[0]}/comm").read_text() == "systemd\n":
            machine = SystemdMachine(process, int(children[0]))
            if machine.run("systemctl", "is-system-running").stdout.strip() in _UP:
                return machine
        time.sleep(0.2)
    raise LabError(f"no systemd came up: {log.read_text(errors='replace')[-500:]}")


def _become_systemd(scratch: Path, installation: Path) -> None:
    """Build the root folder, and be its systemd; runs as the first process of its namespaces."""
    kernel.mount("none", Path("/"), flags=kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("machine", scratch, "tmpfs", options="mode=0755")
    root = scratch / "root"
    root.mkdir()
    _overlay(Path("/"), root, scratch / "host")
    kernel.mount("dev", root / "dev", "tmpfs", kernel.MS_NOSUID, "mode=0755")
    fill_dev(root / "dev", gpus=0)
    kernel.mount("proc", root / "proc", "proc")
    kernel.mount("sysfs", root / "sys", "sysfs", kernel.MS_RDONLY)
    # systemd's own hierarchy is enough for it, in the old way as in the new one.
    groups = root / "sys/fs/cgroup"
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        kernel.mount("cgroup2", groups, "cgroup2")
    else:
        kernel.mount("groups", groups, "tmpfs", options="mode=0755")
        (groups / "systemd").mkdir()
        kernel.mount("cgroup", groups / "systemd", "cgroup", options="none,name=systemd")
    for name in ("fsx", "opt/slurm-fsx"):
        (root / name).mkdir(parents=True, exist_ok=True)
    _overlay(installation, root / "opt/slurm-fsx", scratch / "installation")
    for name in ("run", "tmp", "fsx"):
        kernel.mount(name, root / name, "tmpfs", options="mode=1777" if name == "tmp" else "mode=0755")
    units = root / "etc/systemd/system"
    for wants in units.glob("*.wants"):
        for link in wants.iterdir():
            link.unlink()
    for name in _WITHOUT:
        (units / name).unlink(missing_ok=True)
        (units / name).symlink_to("/dev/null")
    (units / "default.target").unlink(missing_ok=True)
    (units / "default.target").symlink_to("/lib/systemd/system/multi-user.target")
    kernel.pivot_root(root)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    # What systemd takes for a container: it leaves the kernel's settings alone.
    os.execve(SYSTEMD, [str(SYSTEMD), "--system", "--log-target=console"], {"container": "lab", "PATH": _PATH})


def _overlay(source: Path, target: Path, layer: Path) -> None:
    for name in ("upper", "work"):
        (layer / name).mkdir(parents=True)
    options = f"lowerdir={source},upperdir={layer / 'upper'},workdir={layer / 'work'}"
    kernel.mount("overlay", target, "overlay", options=options)


if __name__ == "__main__":
    _become_systemd(Path(sys.argv[1]), Path(sys.argv[2]))
