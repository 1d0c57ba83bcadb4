"""Folders and logs that root makes on a shared file system, believing only those that nobody else can change."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys

from .errors import UntrustedFile
from .files import WORLD_READABLE, check_owner


def make_folder(path: str, mode: int) -> None:
    """Make a folder, or see that the one that is there is a real one, ours or root's, and closed to others' writes.

    Raises:
        UntrustedFile: it is not.
        OSError: it cannot be made.
    """
    try:
        os.mkdir(path, mode)
        os.chmod(path, mode)  # whatever the umask is
    except FileExistsError:
        pass
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            raise UntrustedFile(f"{path} is no folder", hint="remove it") from None
        raise
    try:
        check_owner(path, os.fstat(fd))
    finally:
        os.close(fd)


def open_log(path: str) -> int:
    """Open a log for appending, and only a file of our own: the folder may be one that users write to.

    Raises:
        UntrustedFile: something else has the name.
        OSError: it cannot be opened.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, WORLD_READABLE)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise UntrustedFile(f"{path} is a link or no file", hint="remove it") from None
        raise
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_uid not in (0, os.geteuid()) or status.st_nlink != 1:
        os.close(fd)
        raise UntrustedFile(f"{path} is not a log that we made", hint="remove it")
    return fd


def remove_tree(path: str) -> None:
    """Remove a file or a folder with everything in it, following no link; what resists is left."""
    if os.path.isdir(path) and not os.path.islink(path):
        if sys.version_info >= (3, 12):
            shutil.rmtree(path, onexc=_open_up)
        else:
            shutil.rmtree(path, onerror=_open_up)
    elif os.path.lexists(path):
        os.unlink(path)


def free_bytes(folder: str) -> int:
    """Give the room that a file system has for this user."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def _open_up(function: object, path: str, _error: object) -> None:
    """Let the owner into a folder of an image that keeps even its owner out, and go on."""
    if os.geteuid() == 0:
        return
    try:
        for place in (os.path.dirname(path), path):
            if stat.S_ISDIR(os.lstat(place).st_mode):
                os.chmod(place, 0o700)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)
    except OSError:
        pass
