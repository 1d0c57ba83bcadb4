"""Whether flock(2) excludes processes on every node that mounts a folder."""

from __future__ import annotations

_LOCAL = frozenset(("bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs"))
"""File systems of one kernel, where flock(2) cannot but hold."""


def flock_holds(fd: int) -> bool:
    """Whether flock(2) on files of an open folder excludes processes on every node that mounts it.

    Lustre has it with the mount option ``flock`` (not ``localflock``, and none without), NFS unless locks are kept
    local. What is unknown is taken as without. Source: mount.lustre(8), nfs(5).
    """
    try:
        with open(f"/proc/self/fdinfo/{fd}") as file:
            mount = next(line.split()[1] for line in file if line.startswith("mnt_id:"))
        with open("/proc/self/mountinfo", errors="surrogateescape") as file:
            line = next(line for line in file if line.split(" ", 1)[0] == mount)
    except (OSError, StopIteration):
        return False
    return mount_has_flock(line)


def mount_has_flock(line: str) -> bool:
    """Whether flock(2) holds across nodes on the mount that a line of /proc/self/mountinfo describes."""
    kind, _, options = line.partition(" - ")[2].strip().split(" ", 2)
    words = set(options.split(","))
    if kind == "lustre":
        return "flock" in words
    if kind in ("nfs", "nfs4"):
        return not words & {"nolock", "local_lock=flock", "local_lock=all"}
    return kind in _LOCAL
