"""What is mounted where, by the kernel's word alone: nothing here touches a file system that may hang."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOCAL = frozenset(
    ("bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "squashfs", "tmpfs", "ramfs", "xfs", "zfs", "vfat")
)
_SHARED = frozenset(
    (
        *("lustre", "nfs", "nfs4", "cifs", "smb3", "ceph", "gpfs", "beegfs", "wekafs", "afs", "9p", "glusterfs"),
        *("fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.mount-s3", "fuse.sshfs", "fuse.juicefs"),
    )
)


class Mount(NamedTuple):
    """A mount of this machine. Made of what json can carry."""

    point: str
    kind: str
    source: str
    line: str
    """The whole line of /proc/self/mountinfo."""

    @property
    def is_local(self) -> bool:
        """Whether no other machine sees it, for sure: nothing is known of a kind that is in neither list."""
        return self.kind in _LOCAL

    @property
    def is_shared(self) -> bool:
        """Whether other machines see it, too, for sure."""
        return self.kind in _SHARED

    @property
    def is_read_only(self) -> bool:
        return "ro" in self.line.split(" ")[5].split(",")


def parse_mounts(text: str) -> list[Mount]:
    """Read /proc/self/mountinfo, oldest mount first. Source: proc(5)."""
    found = []
    for line in text.splitlines():
        head, _, tail = line.partition(" - ")
        # Spaces and other special characters are written as octal numbers.
        point = head.split(" ")[4].encode(errors="surrogateescape").decode("unicode_escape")
        kind, source = tail.split(" ")[:2]
        found.append(Mount(point.encode("latin-1").decode(errors="surrogateescape"), kind, source, line))
    return found


def read_mounts(proc: str = "/proc") -> list[Mount]:
    """Give this machine's mounts, oldest first."""
    with open(f"{proc}/self/mountinfo", errors="surrogateescape") as file:
        return parse_mounts(file.read())


def mount_of(path: str, known: Sequence[Mount] | None = None) -> Mount | None:
    """Give the mount that a path is on, as far as its text tells: links are not followed.

    Args:
        path: It may be missing.
        known: All mounts; those of now unless given.
    """
    mounts = read_mounts() if known is None else known
    holding = [mount for mount in mounts if f"{path}/".startswith(f"{mount.point.rstrip('/')}/")]
    # The last one of those at the deepest point is what is seen.
    return max(enumerate(holding), key=lambda each: (len(each[1].point), each[0]), default=(0, None))[1]


def mounted_at(path: str, known: Sequence[Mount] | None = None) -> Mount | None:
    """Give what is mounted at a path itself; None where nothing is."""
    mounts = read_mounts() if known is None else known
    return next((mount for mount in reversed(mounts) if mount.point == (path.rstrip("/") or "/")), None)


def mounted_for(root: str) -> Mount | None:
    """Give the mount at a folder, or at what it is a link to, or the shared file system that it is a folder of."""
    for path in (root, os.path.join(os.path.dirname(root), os.readlink(root)) if _is_link(root) else root):
        mount = mount_of(path)
        if mount is not None and (mount.point == path or (mount.point != "/" and not mount.is_local)):
            return mount
    return None


def _is_link(path: str) -> bool:
    """Whether a path is a symbolic link; one that is on a mount is not looked at: that may hang."""
    mount = mount_of(path)
    return (mount is None or mount.point == "/") and os.path.islink(path)


def is_shared(path: str, root: str = "/") -> bool:
    """Whether other machines may see a path, too, as far as its file system's kind tells; the path may be missing.

    Args:
        path: The path, as the machine names it.
        root: The machine's root folder; of another system, only what its own /proc has down is known to be mounted.
    """
    if root == "/":
        mount = mount_of(os.path.realpath(path))
    else:
        try:
            mount = mount_of(path, read_mounts(f"{root.rstrip('/')}/proc"))
        except FileNotFoundError:
            return False
    return mount is not None and not mount.is_local
