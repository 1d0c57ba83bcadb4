"""Checks of the shared file system: there, answering, with room, with locks, closed to whom it must be closed."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING, Any

from ...flock import mount_has_flock
from ..mounts import mount_of, mounted_at
from .basics import mounts
from .findings import NOTE, PROBLEM, WARNING, Check, Finding, Probe, Trouble, Unseen

if TYPE_CHECKING:
    from ..mounts import Mount
    from .findings import Context, Facts

_SPACE = "https://docs.aws.amazon.com/fsx/latest/LustreGuide/lfs-migrate-ts.html"
_LOW_SHARE, _FULL_SHARE = 0.10, 0.02
"""Of a file system: Lustre's targets fill unevenly, so writes fail while some room is left. The figures are ours."""

_GIB = 1 << 30

NOT_MOUNTED = Trouble(
    PROBLEM,
    "Nothing is mounted at {root}.",
    "Jobs start without the NCCL environment, no container name finds its image, and what is written to {root} lands "
    "on this node's own disk.",
    "mount {root}",
)
NOT_IN_FSTAB = NOT_MOUNTED._replace(
    text="Nothing is mounted at {root}, and {etc}/fstab has no line for it.",
    why=f"{NOT_MOUNTED.why} Mount it: mount -t lustre -o noatime,flock FILE-SYSTEM-DNS@tcp:/MOUNT-NAME {{root}}, "
    "and write a line for it into {etc}/fstab.",
    command="",
    source="https://docs.aws.amazon.com/fsx/latest/LustreGuide/mount-fs-auto-mount-onreboot.html",
)
READ_ONLY = Trouble(
    PROBLEM,
    "{root} is mounted read-only.",
    "Images cannot be imported, jobs cannot write results, and no node registers with Prometheus.",
    "mount -o remount,rw {root}",
)
NOT_SHARED = Trouble(
    NOTE,
    "{root} is {kind}, which other nodes do not see unless it is exported.",
    "Images, NCCL and Prometheus's targets are meant to be there on all nodes.",
)
HANGS = Trouble(
    PROBLEM,
    "{root} did not answer within {limit:g} s.",
    "Prologs give up on it after fsx.timeout, and jobs start without NCCL; every command that touches it hangs, often "
    "beyond kill -9. See whether the file server is up, and the network to it: port 988 for Lustre.",
    "dmesg --ctime | grep -i lustre | tail",
    "https://docs.aws.amazon.com/fsx/latest/LustreGuide/limit-access-security-groups.html",
)
SLOW = Trouble(
    WARNING,
    "{root} took {elapsed:.1f} s to answer one question.",
    "A prolog gives up after fsx.timeout ({timeout:g} s), and its job starts without NCCL.",
)
NO_SPACE = Trouble(
    PROBLEM,
    "{root} is full: {share:.1f} % of its room is left, {free}.",
    "Writes fail, and a Lustre target that is full may hang its writers.",
    "{df} -h {root}",
    _SPACE,
)
LITTLE_SPACE = NO_SPACE._replace(
    severity=WARNING,
    text="{root} is nearly full: {share:.1f} % of its room is left, {free}.",
    why="Lustre's targets fill unevenly: writes to the fullest one fail first, while there is room elsewhere.",
)
NO_INODES = Trouble(
    PROBLEM,
    "{root} has only {share:.1f} % of its inodes left.",
    "Files cannot be created, whatever room is left.",
    "{df} -i {root}",
    _SPACE,
)
NO_FLOCK = Trouble(
    WARNING,
    "{root} is mounted without the option flock.",
    "Importers of several nodes then wait half a minute for a dead one instead of none, and users' programs that lock "
    "files fail. Put flock among its options in /etc/fstab, too.",
    "umount {root} && mount -t lustre -o noatime,flock {device} {root}",
    "https://docs.aws.amazon.com/fsx/latest/LustreGuide/mount-fs-auto-mount-onreboot.html",
)
OPEN_FOLDER = Trouble(
    PROBLEM,
    "{path} can be written by others than its owner (mode {mode}).",
    "Whoever can write there runs code as everybody whose jobs read it, root's prologs included; root refuses to read "
    "it, so jobs get nothing of it.",
    "chmod go-w {path}",
    is_safe=True,
)
STRANGE_OWNER = Trouble(
    PROBLEM,
    "{path} belongs to user {uid}, not to root.",
    "Its owner could give other users' jobs whatever libraries and settings; root refuses to read it, so jobs get "
    "nothing of it.",
    "chown root {path}",
)
OPEN_TOP = OPEN_FOLDER._replace(
    text="{path} can be written by everybody (mode {mode}), and lets them rename what others have there.",
    why="Any user can put another folder in the place of containers or nccl, and so run code as everybody.",
    command="chmod 1777 {path}",
    is_safe=False,
)
NOT_STICKY = Trouble(
    WARNING,
    "{path} is everybody's, but without the sticky bit (mode {mode}).",
    "Users can remove each other's files.",
    "chmod +t {path}",
)

OURS = (
    *("containers", "containers/.slurm-fsx", "config", "config/containers.txt", "nccl", "nccl/versions", "scripts"),
    *("nccl/setup-nccl-env.sh", "nccl/.nccl_version", "monitoring", "monitoring/targets", "logs/container-downloads"),
)
"""What root or other users read: nobody else may write there."""

_ROOTS = ("nccl", "monitoring", "config", "scripts")
"""What must be root's own; the catalogue may belong to another account that keeps it."""

USERS = ("datasets", "checkpoints", "results", "logs/training")


def _look(context: Context, facts: Facts) -> Any:
    begun_s = time.monotonic()
    root = context.config["fsx.root"]
    is_empty = not os.path.isdir(root) or not os.listdir(root)
    if is_empty and _mount(context, facts) is None:
        # What is not there is one trouble, not one for each thing that should be in it.
        raise Unseen(f"nothing is mounted at {root}")
    status = os.statvfs(root)
    return {
        "elapsed_s": time.monotonic() - begun_s,
        "free_bytes": status.f_bavail * status.f_frsize,
        "total_bytes": status.f_blocks * status.f_frsize,
        "free_inodes": status.f_favail,
        "total_inodes": status.f_files,
    }


def _look_at_folders(context: Context, facts: Facts) -> Any:
    found = {}
    for name in ("", *OURS, *USERS):
        path = context.config.below_fsx(name).rstrip("/")
        try:
            status = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if not stat.S_ISLNK(status.st_mode):
            found[name] = {"path": path, "mode": stat.S_IMODE(status.st_mode), "uid": status.st_uid}
    return found


def _read_fstab(context: Context, facts: Facts) -> Any:
    """Give the mount points of fstab, and where the shared file system's root leads if it is a link."""
    root = context.config["fsx.root"].rstrip("/")
    # Where something is mounted there is no link, and to ask for one would hang with it.
    is_link = mounted_at(root, mounts(facts)) is None and os.path.islink(root)
    target = os.path.join(os.path.dirname(root), os.readlink(root)).rstrip("/") if is_link else ""
    try:
        with open(f"{context.etc}/fstab", errors="replace") as file:
            lines = [line.split("#")[0].split() for line in file]
    except FileNotFoundError:
        lines = []
    return {"points": [words[1] for words in lines if len(words) > 1], "target": target}


def _mount(context: Context, facts: Facts) -> Mount | None:
    """Give the mount of the shared file system: at its root, or of a shared one that this is a folder of."""
    point = facts["fstab"]["target"] or context.config["fsx.root"].rstrip("/")
    mount = mount_of(point, mounts(facts))
    return mount if mount is not None and (mount.is_shared or mount.point == point) else None


def _judge_mounted(context: Context, facts: Facts) -> list[Finding]:
    root = context.config["fsx.root"].rstrip("/")
    point = facts["fstab"]["target"] or root
    mount = _mount(context, facts)
    if mount is None:
        if point in facts["fstab"]["points"]:
            return [NOT_MOUNTED.found(root=point)]
        return [NOT_IN_FSTAB.found(root=point, etc=context.etc)]
    if mount.is_read_only:
        return [READ_ONLY.found(root=root)]
    return [] if mount.is_shared or mount.kind.startswith("fuse") else [NOT_SHARED.found(root=root, kind=mount.kind)]


def _judge_answer(context: Context, facts: Facts) -> list[Finding]:
    root, timeout_s = context.config["fsx.root"], context.config["fsx.timeout"]
    missing = facts.missing("fsx")
    if missing is not None and missing.hung:
        return [HANGS.found(root=root, limit=LOOK.limit_s)]
    elapsed_s = facts["fsx"]["elapsed_s"]
    return [SLOW.found(root=root, elapsed=elapsed_s, timeout=timeout_s)] if elapsed_s > timeout_s / 4 else []


def _judge_space(context: Context, facts: Facts) -> list[Finding]:
    root, seen = context.config["fsx.root"], facts["fsx"]
    mount = _mount(context, facts)
    # Lustre's own tells of each target, too.
    df = ["lfs", "df"] if mount is not None and mount.kind == "lustre" else ["df"]
    found = []
    share = seen["free_bytes"] / max(1, seen["total_bytes"])
    if share < _LOW_SHARE:
        trouble = NO_SPACE if share < _FULL_SHARE else LITTLE_SPACE
        found.append(trouble.found(root=root, share=share * 100, free=f"{seen['free_bytes'] / _GIB:.1f} GiB", df=df))
    share = seen["free_inodes"] / max(1, seen["total_inodes"])
    if seen["total_inodes"] and share < _FULL_SHARE:
        found.append(NO_INODES.found(root=root, share=share * 100, df=df))
    return found


def _judge_flock(context: Context, facts: Facts) -> list[Finding]:
    mount = _mount(context, facts)
    if mount is None or mount.kind != "lustre" or mount_has_flock(mount.line):
        return []
    return [NO_FLOCK.found(root=mount.point, device=mount.source)]


def _judge_folders(context: Context, facts: Facts) -> list[Finding]:
    found = []
    seen = facts["fsx-folders"]
    for name in OURS:
        if name not in seen:
            continue
        path, mode, uid = (seen[name][key] for key in ("path", "mode", "uid"))
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            found.append(OPEN_FOLDER.found(path=path, mode=f"{mode:04o}", is_safe=_is_closed(seen.get(""))))
        if uid != 0 and name.split("/")[0] in _ROOTS:
            found.append(STRANGE_OWNER.found(path=path, uid=uid))
    top = seen.get("")
    if top and top["mode"] & stat.S_IWOTH and not top["mode"] & stat.S_ISVTX:
        found.append(OPEN_TOP.found(path=top["path"], mode=f"{top['mode']:04o}"))
    shared = [seen[name] for name in USERS if name in seen]
    return found + [
        NOT_STICKY.found(path=each["path"], mode=f"{each['mode']:04o}")
        for each in shared
        if each["mode"] & stat.S_IWOTH and not each["mode"] & stat.S_ISVTX
    ]


def _is_closed(folder: dict[str, Any] | None) -> bool:
    """Whether nobody can put a link in the place of what is in a folder, while root changes its mode."""
    return folder is not None and folder["uid"] == 0 and not folder["mode"] & (stat.S_IWGRP | stat.S_IWOTH)


LOOK = Probe("fsx", "{root}", _look, limit_s=2.0, after=("mounts", "fstab"))
PROBES = (
    LOOK,
    Probe("fsx-folders", "{root}", _look_at_folders, after=("fsx",)),
    Probe("fstab", "/etc/fstab", _read_fstab, after=("mounts",)),
)
CHECKS = (
    Check(
        "fsx-mounted",
        "the shared file system is mounted and can be written to",
        ("mounts", "fstab"),
        _judge_mounted,
        (NOT_MOUNTED, NOT_IN_FSTAB, READ_ONLY, NOT_SHARED),
    ),
    Check("fsx-answers", "the shared file system answers, and soon", ("fsx",), _judge_answer, (HANGS, SLOW)),
    Check(
        "fsx-space",
        "the shared file system has room and inodes",
        ("fsx", "mounts", "fstab"),
        _judge_space,
        (NO_SPACE, LITTLE_SPACE, NO_INODES),
        is_of_cluster=True,
    ),
    Check(
        "fsx-flock",
        "locks on the shared file system hold between nodes",
        ("mounts", "fstab"),
        _judge_flock,
        (NO_FLOCK,),
    ),
    Check(
        "fsx-folders",
        "folders on the shared file system are closed to those who must not write there",
        ("fsx-folders",),
        _judge_folders,
        (OPEN_FOLDER, STRANGE_OWNER, OPEN_TOP, NOT_STICKY),
        is_of_cluster=True,
    ),
)
