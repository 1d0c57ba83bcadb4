"""What is mounted where, by the kernel's word alone: nothing here touches a file system that may hang."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .findings import Probe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .findings import Context, Facts

SHARED = (
    *("lustre", "nfs", "nfs4", "cifs", "smb3", "ceph", "gpfs", "beegfs", "wekafs", "afs", "9p", "glusterfs"),
    *("fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.mount-s3", "fuse.sshfs", "fuse.juicefs"),
)
"""Kinds of file systems that other machines see, too."""


class Mount(NamedTuple):
    """A mount of this machine. Made of what json can carry."""

    point: str
    kind: str
    source: str
    line: str
    """The whole line of /proc/self/mountinfo."""

    @property
    def options(self) -> set[str]:
        """Options of the mount and of the file system. Source: proc(5), mountinfo."""
        head, _, tail = self.line.partition(" - ")
        return {*head.split(" ")[5].split(","), *tail.split(" ")[2].split(",")}

    @property
    def is_shared(self) -> bool:
        return self.kind in SHARED


def parse_mountinfo(text: str) -> list[Mount]:
    """Read /proc/self/mountinfo."""
    found = []
    for line in text.splitlines():
        head, _, tail = line.partition(" - ")
        point = head.split(" ")[4].encode().decode("unicode_escape").encode("latin-1").decode(errors="surrogateescape")
        kind, source, *_ = tail.split(" ")
        found.append(Mount(point, kind, source, line))
    return found


def mounts(facts: Facts) -> list[Mount]:
    """Give the mounts among the facts."""
    return [Mount(*each) for each in facts["mounts"]]


def mount_of(path: str, known: Sequence[Mount]) -> Mount | None:
    """Give the mount that a path is on, as far as its text tells: links are not followed."""
    holding = [mount for mount in known if f"{path}/".startswith(f"{mount.point.rstrip('/')}/")]
    # The last one of those at the deepest point is what is seen.
    return max(enumerate(holding), key=lambda each: (len(each[1].point), each[0]), default=(0, None))[1]


def mounted_at(path: str, known: Sequence[Mount]) -> Mount | None:
    """Give what is mounted at a path itself, if anything is."""
    return next((mount for mount in reversed(known) if mount.point == path.rstrip("/")), None)


def _gather(context: Context, facts: Facts) -> Any:
    with open(f"{context.proc}/self/mountinfo", errors="surrogateescape") as file:
        return [list(mount) for mount in parse_mountinfo(file.read())]


PROBES = (Probe("mounts", "the kernel's list of mounts", _gather),)
