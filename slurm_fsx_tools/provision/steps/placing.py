"""Puts files where they belong, so that a reader sees the old one or the new one, and never anything of ours between.

Folders such as ``prolog.d`` and ``plugstack.conf.d`` are read by pattern: a temporary file in there, for a moment, has
failed all jobs of a cluster (aws/aws-parallelcluster#6459). So what is half-written stands in a folder above, and so do
backups.
"""

from __future__ import annotations

import hashlib
import os
import stat

from ...errors import UntrustedFile
from ...files import move, publish, remove

PATTERN_FOLDER = ".d"
"""How folders end that are read by pattern."""

_STAGED = ".slurm-fsx-staged"
_BACKUP = "slurm-fsx-backup"


def staged_name(path: str) -> str:
    """Name the file that will become `path`: always the same on one node, so that a kill leaves one at most.

    It is on the same file system, in the nearest folder above `path`'s own that is not read by pattern either; in
    `path`'s own, hidden, only where that is a mount of its own.

    Raises:
        UntrustedFile: somebody else could turn the path elsewhere.
        OSError: the folder is missing.
    """
    folder = os.path.dirname(path)
    check_folders(folder)
    folder = os.path.realpath(folder)
    name = f"{_STAGED}.{os.uname().nodename}.{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}"
    return f"{_above(folder).rstrip('/')}/{name}"


def is_staged(path: str) -> bool:
    """Whether a path is one that `staged_name` gives."""
    return os.path.basename(path).startswith(f"{_STAGED}.")


def backup_name(path: str, by_pattern: bool = False) -> str:
    """Name the next backup of a file: beside it, or above a folder that is read by pattern, as one in ``.d`` is."""
    folder, name = os.path.split(path)
    if by_pattern or folder.endswith(PATTERN_FOLDER):
        folder = _above(os.path.realpath(folder))
    number = 1
    while os.path.lexists(f"{folder}/{name}.{_BACKUP}-{number}"):
        number += 1
    return f"{folder.rstrip('/')}/{name}.{_BACKUP}-{number}"


def place(path: str, staged: str, data: bytes, mode: int, ids: tuple[int, int], like: str = "") -> None:
    """Put a file at `path` in one move.

    Args:
        path: Where; what is there is replaced.
        staged: As `staged_name` gives it.
        data: The content.
        mode: The permissions.
        ids: Numbers of its user and group.
        like: A file whose extended attributes it gets (a label of SELinux, an access list); none where empty.

    Raises:
        OSError: nothing has changed: no room, or a read-only file system.
    """
    remove(staged)
    try:
        write_new(staged, data, mode, ids)
        if like:
            _copy_attributes(like, staged)
        publish(staged, path)
    except BaseException:
        remove(staged)
        raise


def place_link(path: str, staged: str, target: str) -> None:
    """Put a symbolic link at `path` in one move."""
    remove(staged)
    os.symlink(target, staged)
    try:
        move(staged, path)
    except BaseException:
        remove(staged)
        raise


def write_new(path: str, data: bytes, mode: int, ids: tuple[int, int] | None = None) -> None:
    """Write a file that nobody reads yet, whole and with its owner, before it gets its permissions."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        if ids is not None:
            os.fchown(fd, *ids)
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def check_folders(folder: str) -> None:
    """Raise UntrustedFile where somebody but root, or this process's user, could lead a path to this folder astray."""
    folder = os.path.abspath(folder)
    for place in _chain(folder):
        status = os.lstat(place)
        if status.st_uid not in (0, os.geteuid()):
            raise UntrustedFile(f"{place} belongs to user {status.st_uid}", hint=f"run: chown root {place}")
        if not stat.S_ISLNK(status.st_mode) and status.st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH:
            raise UntrustedFile(
                f"{place} can be written by everybody", hint=f"run: chmod +t {place}, or chmod o-w {place}"
            )
    real = os.path.realpath(folder)
    if real != folder:
        check_folders(real)


def _chain(folder: str) -> list[str]:
    chain = [folder]
    while chain[-1] != "/":
        chain.append(os.path.dirname(chain[-1]))
    return chain[::-1]


def _above(folder: str) -> str:
    """Give the nearest folder above that a file can be moved from, and that nothing reads by pattern."""
    device = os.stat(folder).st_dev
    mounted = _mount_points()
    place = folder
    while place != "/" and place not in mounted:
        place = os.path.dirname(place)
        status = os.stat(place)
        if status.st_dev != device:
            break
        if not place.endswith(PATTERN_FOLDER) and not status.st_mode & stat.S_IWOTH:
            return place
    return folder


def _mount_points() -> set[str]:
    """Name where something is mounted: a bind mount has the device of what it shows, and no file is moved out of it."""
    try:
        with open("/proc/self/mountinfo", errors="surrogateescape") as file:
            return {line.split(" ")[4] for line in file}
    except OSError:
        return set()


def _copy_attributes(source: str, target: str) -> None:
    for name in os.listxattr(source):
        try:
            os.setxattr(target, name, os.getxattr(source, name))
        except OSError:
            pass  # some belong to the file system alone
