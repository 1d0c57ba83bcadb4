"""The two habits root needs with files: believe only root's, and never show half of one."""

from __future__ import annotations

import errno
import os
import stat

from .errors import UntrustedFile

OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
WORLD_READABLE = 0o644


def open_trusted(path: str, dir_fd: int | None = None) -> int:
    """Open a regular file for reading that only root, or this process's user, can have written.

    The check is made on the opened descriptor, so the file cannot be swapped between check and use. A symbolic link
    as the last component is refused. The caller closes the descriptor.

    Raises:
        OSError: the file is missing or cannot be read.
        UntrustedFile: it is a link or no regular file, or somebody else owns it or may write to it.
    """
    try:
        # O_NONBLOCK: opening a FIFO that somebody left here must not hang root.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=dir_fd)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UntrustedFile(f"{path} is a symbolic link", hint="put the file itself there") from None
        raise
    try:
        check_trusted(path, os.fstat(fd))
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_folder(path: str, dir_fd: int | None = None) -> int:
    """Open a folder that only root, or this process's user, can write to; a symbolic link to one is refused.

    Raises:
        OSError: it is missing or cannot be read.
        UntrustedFile: it is no folder, or somebody else owns it or may write to it.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    except NotADirectoryError:  # what O_NOFOLLOW makes of a link to a folder, too
        raise UntrustedFile(f"{path} is no folder", hint="remove it") from None
    try:
        check_owner(path, os.fstat(fd))
    except BaseException:
        os.close(fd)
        raise
    return fd


def check_trusted(path: str, status: os.stat_result) -> None:
    """Raise UntrustedFile unless the file is regular, ours or root's, and writable by its owner alone."""
    if not stat.S_ISREG(status.st_mode):
        raise UntrustedFile(f"{path} is no regular file", hint="replace it by a file")
    check_owner(path, status)


def check_owner(path: str, status: os.stat_result) -> None:
    """Raise UntrustedFile unless root or this process's user owns the path, and nobody else may write to it."""
    if status.st_uid not in (0, os.geteuid()):
        raise UntrustedFile(f"{path} belongs to user {status.st_uid}", hint=f"run: chown root {path}")
    if status.st_mode & OTHERS_MAY_WRITE:
        raise UntrustedFile(f"{path} can be written by others than its owner", hint=f"run: chmod go-w {path}")


def read_trusted(path: str, limit_bytes: int = 1 << 20, dir_fd: int | None = None) -> bytes:
    """Read a whole file as `open_trusted` opens it.

    Raises:
        OSError, UntrustedFile: as for `open_trusted`; also UntrustedFile where the file is larger than the limit.
    """
    fd = open_trusted(path, dir_fd)
    try:
        return read_all(fd, path, limit_bytes)
    finally:
        os.close(fd)


def read_all(fd: int, path: str, limit_bytes: int) -> bytes:
    """Read an open file to its end, at most `limit_bytes`."""
    chunks = []
    remaining = limit_bytes + 1
    while remaining > 0:
        chunk = os.read(fd, min(remaining, 1 << 20))
        if not chunk:
            break
        chunks.append(chunk)
        remaining -= len(chunk)
    if remaining <= 0:
        raise UntrustedFile(f"{path} is larger than {limit_bytes} bytes", hint="see what wrote it")
    return b"".join(chunks)


def write_atomically(path: str, data: bytes, mode: int = WORLD_READABLE, dir_fd: int | None = None) -> None:
    """Replace a file's content so that a reader sees the old one or the new one, never a part.

    The temporary name starts with a dot and ends with this node's name and the process id, so that nodes that share the
    folder have each their own; it stands in the same folder, and is gone when this raises. The data is not flushed to
    disk: after a power cut the file may be empty, never after a killed process.

    Args:
        path: The file.
        data: Its content from now on.
        mode: Who may read it.
        dir_fd: The opened folder that `path` is relative to, where others could change the way to it.

    Raises:
        OSError: the folder is missing, read-only or full.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{os.uname().nodename}.{os.getpid()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        fd = os.open(temporary, flags, mode, dir_fd=dir_fd)
    except FileExistsError:
        # A process with our id died half-way; nobody else can own this name.
        os.unlink(temporary, dir_fd=dir_fd)
        fd = os.open(temporary, flags, mode, dir_fd=dir_fd)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fchmod(fd, mode)  # whatever the umask was
        finally:
            os.close(fd)
        os.rename(temporary, path, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except BaseException:
        os.unlink(temporary, dir_fd=dir_fd)
        raise


def publish(staged: str, path: str) -> None:
    """Give a finished file its name, flushed to disk: readers see it whole or not at all, even after a power cut.

    Whatever has the name before, a link included, is replaced by the file itself; who has it open keeps it.

    Args:
        staged: On the same file system as `path`.
        path: Its name from now on.

    Raises:
        OSError: the disk is full or read-only, or a folder has the name.
    """
    for place, flags in ((staged, os.O_RDONLY), (os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)):
        fd = os.open(place, flags | os.O_NOFOLLOW * (place == staged) | os.O_CLOEXEC)
        try:
            if place != staged:
                os.rename(staged, path)
            os.fsync(fd)
        finally:
            os.close(fd)


def move(source: str, target: str, source_fd: int | None = None, target_fd: int | None = None) -> None:
    """Give a file or folder another name on the same file system; an existing empty folder is replaced.

    Raises:
        OSError: the source is missing, or the target cannot be made.
    """
    os.rename(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd)


def exchange(one: str, other: str) -> None:
    """Swap two files, folders or links of one file system in one step: at no moment is a name without its thing.

    Raises:
        OSError: one of them is missing, or the file system cannot do it.
    """
    import ctypes  # not for the prolog

    at_cwd, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE; Source: rename(2)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), swap) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), one)


def point(link: str, target: str) -> None:
    """Make a symbolic link, or turn the one that is there, so that a reader sees the old target or the new one.

    Raises:
        OSError: the folder is missing or read-only, or a folder has the link's name.
    """
    folder, name = os.path.split(link)
    temporary = os.path.join(folder, f".{name}.{os.uname().nodename}.{os.getpid()}")
    remove(temporary)  # a process with our id died half-way
    os.symlink(target, temporary)
    try:
        os.rename(temporary, link)
    except BaseException:
        os.unlink(temporary)
        raise


def remove(path: str, dir_fd: int | None = None) -> bool:
    """Remove a file; say whether it was there."""
    try:
        os.unlink(path, dir_fd=dir_fd)
    except FileNotFoundError:
        return False
    return True
