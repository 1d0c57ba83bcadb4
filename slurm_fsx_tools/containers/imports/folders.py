"""Makes the folders of a store, and believes only those that nobody else can change."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ...errors import SharedFsUnavailable, SlurmFsxError, UntrustedFile
from ...files import OTHERS_MAY_WRITE
from ...folders import make_folder, remove_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..store import Store

_OPEN = 0o755
_PRIVATE = 0o700
_SCRATCH_PREFIX = "slurm-fsx-import."


def make_folders(store: Store) -> None:
    """Make the folders that an import writes to, where they are missing.

    Raises:
        SharedFsUnavailable: the folder of images is missing.
        SlurmFsxError: it belongs to somebody else.
        UntrustedFile: others could change what an import does.
        OSError: a folder cannot be made.
    """
    try:
        status = os.stat(store.folder)
    except FileNotFoundError:
        raise SharedFsUnavailable(
            f"there is no containers folder {store.folder}",
            hint="see whether the file system is mounted, or make the folder",
        ) from None
    if os.geteuid() not in (0, status.st_uid):
        raise SlurmFsxError(f"{store.folder} belongs to user {status.st_uid}, and only its owner can import into it",
                            hint="run this by sudo")  # fmt: skip
    if status.st_mode & OTHERS_MAY_WRITE and not status.st_mode & stat.S_ISVTX:
        # Whoever can rename in there could swap our folders for links.
        raise UntrustedFile(f"{store.folder} can be written by others", hint=f"run: chmod go-w {store.folder}")
    for path, mode in (
        (store.state, _OPEN),
        (store.records, _OPEN),
        (store.locks, _OPEN),
        (store.imports, _OPEN),
        (store.registries, _OPEN),
        (store.staging, _PRIVATE),
        (store.layers, _PRIVATE),
    ):
        make_folder(path, mode)


def make_lock_folder(store: Store, file: str) -> None:
    """Make the folders above an image's lock, where they are missing.

    Raises:
        UntrustedFile: others could change what is in there.
        OSError: a folder cannot be made.
    """
    for path in (store.state, store.locks, os.path.dirname(store.lock(file))):
        make_folder(path, _OPEN)


@contextmanager
def scratch_folder(base: str) -> Iterator[str]:
    """Make a folder of our own on local disk, removed at the end, and remove those whose owner died.

    A folder's owner holds a lock on it (flock(2): the disk is local) as long as it lives.
    """
    for entry in _entries(base):
        if entry.startswith(_SCRATCH_PREFIX):
            _remove_dead(f"{base}/{entry}")
    while True:
        path = tempfile.mkdtemp(prefix=_SCRATCH_PREFIX, dir=base)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Somebody who looked between the two lines above took it for a dead one's.
            if os.path.samestat(os.stat(path), os.fstat(fd)):
                break
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(fd)
    try:
        yield path
    finally:
        remove_tree(path)
        os.close(fd)


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _remove_dead(path: str) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return  # gone by now, or somebody else's
    try:
        if os.fstat(fd).st_uid == os.geteuid():
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_tree(path)
    except OSError:
        pass  # its owner lives
    finally:
        os.close(fd)
