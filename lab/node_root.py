"""The root folder of a node: the host's programs, with folders of its own wherever Slurm or the product writes.

Built in a mount namespace of its own, so nothing of it is ever seen by the host, and it ends with the last process
in there. What each top-level folder becomes:

===================  ====================================================================
/etc /opt /usr /srv  the host's, under an overlay: writable, and nobody else sees it
/run /var /home      new and empty (an overlay cannot hold the upper layer of another one)
/root                new, and open to everybody: a checkout or an interpreter may lie in it
/dev                 a few devices, /dev/fuse open to users as udev has it, own /dev/log
/proc                this node's processes
/tmp                 the host's
all others           the host's, read-only
===================  ====================================================================
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import NamedTuple

from . import kernel

OVERLAID = ("etc", "opt", "usr", "srv")
OWN = ("dev", "home", "proc", "root", "run", "sys", "tmp", "var")

_DEVICES = {
    "null": (1, 3),
    "zero": (1, 5),
    "full": (1, 7),
    "random": (1, 8),
    "urandom": (1, 9),
    "tty": (5, 0),
    "fuse": (10, 229),
}
_VAR_FOLDERS = ("cache", "lib", "local", "log/slurm", "opt", "spool/slurmctld", "spool/slurmd", "lib/munge")


class Bind(NamedTuple):
    """A file or folder of the host that a node sees."""

    source: str
    target: str
    read_only: bool = False
    is_own: bool = False  # the source is a folder of the node's own root, which the node has in a second place


class User(NamedTuple):
    """Somebody who exists on the nodes only."""

    name: str
    uid: int

    @property
    def home(self) -> str:
        return f"/home/{self.name}"


class Mount(NamedTuple):
    """A line of mountinfo, as far as it is needed here."""

    point: Path
    is_folder: bool


class RootPlan(NamedTuple):
    """All that makes one node's root different from another's."""

    hostname: str
    scratch: str  # an empty folder on the host; what is mounted there is seen by this node alone
    system: str  # where the programs come from: / or the root of another Debian release
    binds: list[Bind]
    users: list[User]
    hosts: dict[str, str]  # host name: address
    gpus: int


def build_root(plan: RootPlan) -> None:
    """Build the root, and go there. The calling process must be the first of its mount and process namespaces."""
    kernel.mount("none", Path("/"), flags=kernel.MS_REC | kernel.MS_PRIVATE)
    host_mounts = _host_mounts()
    # The overlays' upper layers lie on a file system that nobody can reach once the root has changed.
    layers = Path(plan.scratch)
    kernel.mount("layers", layers, "tmpfs", options="mode=0755")
    root = layers / "root"
    root.mkdir()
    kernel.mount("root", root, "tmpfs", options="mode=0755")

    _bring_top_level(plan, root, layers, host_mounts)
    _make_own_folders(root, host_mounts)
    (root / "dev").mkdir()
    kernel.mount("dev", root / "dev", "tmpfs", kernel.MS_NOSUID, "mode=0755")
    fill_dev(root / "dev", plan.gpus)
    for bind in plan.binds:
        if bind.is_own:
            (root / bind.source.lstrip("/")).mkdir(parents=True, exist_ok=True)
            bind = bind._replace(source=str(root / bind.source.lstrip("/")))
        _bind(bind, root, host_mounts)
    _write_etc(root / "etc", plan)
    kernel.pivot_root(root)
    # As systemd leaves it on a real node: what is mounted later shows in the mount namespaces of running steps too.
    kernel.mount("none", Path("/"), flags=kernel.MS_REC | kernel.MS_SHARED)


def _host_mounts() -> list[Mount]:
    mounts = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = Path(line.split()[4].encode().decode("unicode_escape"))
        # A mount of another user's FUSE file system answers EACCES even to root.
        try:
            mounts.append(Mount(point, point.is_dir()))
        except OSError:
            continue
    return mounts


def _bring_top_level(plan: RootPlan, root: Path, layers: Path, host_mounts: list[Mount]) -> None:
    system = Path(plan.system)
    # Where something is to be bound that has no place there yet; none may be made in the host's own folder.
    lacking = {Path(bind.target).parts[1] for bind in plan.binds if not (system / bind.target.lstrip("/")).exists()}
    for entry in os.scandir(system):
        target = root / entry.name
        if entry.is_symlink():  # /bin and friends, links to /usr/bin
            target.symlink_to(os.readlink(entry.path))
        elif entry.name in OWN or not entry.is_dir():
            continue
        elif entry.name in OVERLAID or entry.name in lacking:
            _overlay(Path(entry.path), target, layers / entry.name, host_mounts)
        else:
            target.mkdir()
            _bind_tree(Path(entry.path), target, host_mounts)
            kernel.make_read_only(target)


def _overlay(source: Path, target: Path, layer: Path, host_mounts: list[Mount]) -> None:
    """Show `source` under a layer of the node's own; without overlayfs, by what comes nearest."""
    for folder in (layer / "upper", layer / "work", target):
        folder.mkdir(parents=True)
    options = f"lowerdir={source},upperdir={layer / 'upper'},workdir={layer / 'work'}"
    try:
        kernel.mount("overlay", target, "overlay", options=options)
    except OSError:
        if target.name == "etc":
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
        else:
            _imitate(source, target, host_mounts)
        return
    for mounted in _below(source, host_mounts):
        here = target / mounted.point.relative_to(source)
        if mounted.is_folder:
            kernel.mount(str(mounted.point), here, flags=kernel.MS_BIND)
            kernel.make_read_only(here)
        else:  # a container's /etc/hosts, say: what lies below that mount is an empty file
            here.write_bytes(mounted.point.read_bytes())


def _imitate(source: Path, target: Path, host_mounts: list[Mount]) -> None:
    """Make a folder of the node's own that holds what the host's holds, each folder in it read-only."""
    for entry in os.scandir(source):
        here = target / entry.name
        if entry.is_symlink():
            here.symlink_to(os.readlink(entry.path))
        elif entry.is_dir():
            here.mkdir()
            _bind_tree(Path(entry.path), here, host_mounts)
            kernel.make_read_only(here)


def _make_own_folders(root: Path, host_mounts: list[Mount]) -> None:
    for name in ("home", "root", "run", "var"):
        (root / name).mkdir()
        kernel.mount(name, root / name, "tmpfs", options="mode=0755")
    for name in _VAR_FOLDERS:
        (root / "var" / name).mkdir(parents=True, exist_ok=True)
    (root / "var/tmp").mkdir()
    (root / "var/tmp").chmod(0o1777)
    (root / "var/run").symlink_to("/run")
    (root / "var/lock").symlink_to("/run/lock")
    (root / "run/lock").mkdir()
    (root / "run/lock").chmod(0o1777)
    for name in ("proc", "sys", "tmp"):
        (root / name).mkdir(exist_ok=True)
    kernel.mount("proc", root / "proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    _bind_tree(Path("/sys"), root / "sys", host_mounts)
    _bind_tree(Path("/tmp"), root / "tmp", host_mounts)


def fill_dev(dev: Path, gpus: int) -> None:
    """Make the devices of a node in a new file system at `dev`."""
    for name, numbers in _DEVICES.items():
        _make_device(dev / name, numbers)
    # Enough for Slurm's gres.conf and for what looks whether a node has GPUs.
    for gpu in range(gpus):
        _make_device(dev / f"nvidia{gpu}", _DEVICES["null"])
    for name, mode in (("pts", 0o755), ("shm", 0o1777)):
        (dev / name).mkdir()
        (dev / name).chmod(mode)
    kernel.mount("devpts", dev / "pts", "devpts", kernel.MS_NOSUID | kernel.MS_NOEXEC, "newinstance,ptmxmode=0666")
    kernel.mount("shm", dev / "shm", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=1777")
    for name, link in (("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd")):
        (dev / name).symlink_to(link)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        (dev / name).symlink_to(f"/proc/self/fd/{number}")


def _make_device(path: Path, numbers: tuple[int, int]) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(*numbers))
    except PermissionError:  # some container runtimes forbid it; then the host's own has to do
        path.touch()
        kernel.mount(f"/dev/{path.name}", path, flags=kernel.MS_BIND)
    else:
        path.chmod(0o666)


def _bind(bind: Bind, root: Path, host_mounts: list[Mount]) -> None:
    target = root / bind.target.lstrip("/")
    source = Path(bind.source)
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        _bind_tree(source, target, host_mounts)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
        kernel.mount(str(source), target, flags=kernel.MS_BIND)
    if bind.read_only:
        kernel.make_read_only(target)


def _bind_tree(source: Path, target: Path, host_mounts: list[Mount]) -> None:
    """Bind a folder with what the host has mounted below it, but not what this module has mounted there since."""
    kernel.mount(str(source), target, flags=kernel.MS_BIND)
    for mounted in _below(source, host_mounts):
        here = target / mounted.point.relative_to(source)
        if here.exists():
            kernel.mount(str(mounted.point), here, flags=kernel.MS_BIND)


def _below(folder: Path, host_mounts: list[Mount]) -> list[Mount]:
    return [mounted for mounted in host_mounts if folder in mounted.point.parents]


def _write_etc(etc: Path, plan: RootPlan) -> None:
    names = {user.name for user in plan.users}
    uids = {str(user.uid) for user in plan.users}
    for name, line in (
        ("passwd", "{0.name}:x:{0.uid}:{0.uid}:{0.name}:{0.home}:/bin/sh"),
        ("group", "{0.name}:x:{0.uid}:"),
    ):
        others = [
            other
            for other in (etc / name).read_text().splitlines()
            if other.split(":")[0] not in names and other.split(":")[2] not in uids
        ]
        (etc / name).write_text("\n".join([*others, *(line.format(user) for user in plan.users)]) + "\n")
    # Without a line in here nobody can "su" to them, and Slurm 26.05 does for sbatch --export=NONE.
    with (etc / "shadow").open("a") as shadow:
        shadow.writelines(f"{user.name}:*:19000:0:99999:7:::\n" for user in plan.users)
    (etc / "hostname").write_text(plan.hostname + "\n")
    lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in plan.hosts.items())]
    (etc / "hosts").write_text("\n".join(lines) + "\n")
    resolver = etc / "resolv.conf"
    if resolver.is_symlink():
        resolver.unlink()
    resolver.write_text("")  # there is no name server on a network that has no way out
