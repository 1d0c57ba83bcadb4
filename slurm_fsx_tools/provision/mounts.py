"""What is mounted where, by the kernel's word alone: nothing here touches a file system that may hang."""

from __future__ import annotations

import os
from typing import NamedTuple

_LOCAL = frozenset(
    ("bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "squashfs", "tmpfs", "ramfs", "xfs", "zfs", "vfat")
)
"""Kinds of file systems that no other machine sees; what is unknown may be shared."""


class Mount(NamedTuple):
    """A mount of this machine."""

    point: str
    kind: str
    source: str

    @property
    def is_local(self) -> bool:
        return self.kind in _LOCAL


def read_mounts() -> list[Mount]:
    """Read /proc/self/mountinfo (proc(5)), oldest mount first."""
    found = []
    with open("/proc/self/mountinfo", errors="surrogateescape") as file:
        for line in file:
            head, _, tail = line.partition(" - ")
            point = head.split(" ")[4].replace("\\040", " ").replace("\\011", "\t")
            kind, source = tail.split(" ")[:2]
            found.append(Mount(point, kind, source))
    return found


def mounted_at(path: str) -> Mount | None:
    """Give what is mounted at a path; None where nothing is."""
    return next((mount for mount in reversed(read_mounts()) if mount.point == path), None)


def mounted_for(root: str) -> Mount | None:
    """Give the mount at a folder, or at what it is a link to, or the shared file system that it is a folder of."""
    for path in (root, os.path.join(os.path.dirname(root), os.readlink(root)) if _is_link(root) else root):
        mount = holding(path)
        if mount is not None and (mount.point == path or not mount.is_local):
            return mount
    return None


def holding(path: str) -> Mount | None:
    """Give the mount that a path is on; None for one of the root's own file system. No link is followed."""
    found = None
    for mount in read_mounts():
        is_deeper = found is None or len(mount.point) >= len(found.point)
        if mount.point != "/" and is_deeper and f"{path}/".startswith(f"{mount.point}/"):
            found = mount
    return found


def _is_link(path: str) -> bool:
    """Whether a path is a symbolic link; one that is on a mount is not looked at: that may hang."""
    return holding(path) is None and os.path.islink(path)


def is_shared(path: str) -> bool:
    """Whether other machines see a path, too, as far as its file system's kind tells; the path may be missing."""
    path = os.path.realpath(path)
    mount = holding(path) or mounted_at("/")
    return mount is not None and not mount.is_local
