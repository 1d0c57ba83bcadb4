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


def is_shared(path: str) -> bool:
    """Whether other machines see a path, too, as far as its file system's kind tells; the path may be missing."""
    path = os.path.realpath(path)
    holding = [mount for mount in read_mounts() if f"{path}/".startswith(f"{mount.point.rstrip('/')}/")]
    deepest = max((len(mount.point) for mount in holding), default=0)
    return not [mount for mount in holding if len(mount.point) == deepest][-1].is_local if holding else False
