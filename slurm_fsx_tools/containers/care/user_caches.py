"""Images that users' own jobs imported, and which of them nobody has used for long.

A cache belongs to its user, who can put there what he likes: so root looks by the descriptors of folders and follows no
link, and becomes that user, in a child with a time limit, to remove something.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from ...errors import UntrustedFile
from ...files import open_folder
from ...shared_fs import SharedFs
from ...shared_lock import try_hold
from ..imports.folders import make_lock_folder
from ..imports.layers import forget_old_layers
from ..imports.state import forget_state
from ..names import SUFFIX
from ..store import Store

if TYPE_CHECKING:
    from collections.abc import Collection

CLEAN_TIMEOUT_S = 120.0
"""How long the cleaning of one user's cache may take."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class CachedImage(NamedTuple):
    """A file in a user's cache."""

    uid: int
    file: str
    size_bytes: int
    used_s: float
    """When it was last read or written, as far as the file system notes it; seconds since 1970."""


def cached_images(store: Store) -> list[CachedImage]:
    """List the images in every user's cache that this process may look into; the longest unused first.

    Raises:
        UntrustedFile: somebody else could write where the caches are.
        OSError: they cannot be listed.
    """
    found: list[CachedImage] = []
    try:
        caches_fd = _open_caches(store)
    except FileNotFoundError:
        return found
    try:
        for name in os.listdir(caches_fd):
            try:
                uid, folder_fd = _open_cache(caches_fd, name)
            except OSError:
                continue  # another user's, or what is none
            try:
                found += [image for file in os.listdir(folder_fd) for image in _look(folder_fd, uid, file)]
            finally:
                os.close(folder_fd)
    finally:
        os.close(caches_fd)
    return sorted(found, key=lambda image: (image.used_s, image.uid, image.file))


def cache_owners(store: Store) -> list[int]:
    """List the users, by uid, whose caches this process may look into.

    Raises:
        UntrustedFile, OSError: as for `cached_images`.
    """
    try:
        caches_fd = _open_caches(store)
    except FileNotFoundError:
        return []
    owners = []
    try:
        for name in os.listdir(caches_fd):
            try:
                uid, folder_fd = _open_cache(caches_fd, name)
            except OSError:
                continue
            os.close(folder_fd)
            owners.append(uid)
    finally:
        os.close(caches_fd)
    return sorted(owners)


def clean_cache(store: Store, uid: int, images: Collection[CachedImage], now_s: float) -> tuple[list[CachedImage], int]:
    """Remove images from a user's cache, and layers that no import has used lately.

    An image that was used since it was listed stays, and one that is being imported.

    Args:
        store: Whose caches.
        uid: The user; none of that user's jobs runs.
        images: What goes, as it was listed.
        now_s: Seconds since 1970, for the layers.

    Returns:
        The images that are gone, and the bytes of the layers.

    Raises:
        UntrustedFile: somebody else could write where the caches are.
        OSError: something cannot be removed.
        SharedFsUnavailable: it takes too long.
    """
    caches_fd = _open_caches(store)
    try:
        _, folder_fd = _open_cache(caches_fd, str(uid))
    finally:
        os.close(caches_fd)

    def act() -> tuple[list[str], int]:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(os.fstat(folder_fd).st_gid)
            os.setuid(uid)
        os.fchdir(folder_fd)
        cache = Store(".")
        gone = [image.file for image in images if _remove(cache, image, folder_fd)]
        return gone, forget_old_layers(cache, now_s)

    try:
        files, freed_bytes = SharedFs(store.folder, CLEAN_TIMEOUT_S).look(act)
    finally:
        os.close(folder_fd)
    return [image for image in images if image.file in files], freed_bytes


def _remove(cache: Store, image: CachedImage, folder_fd: int) -> bool:
    """Remove an image under its lock, as its user; say whether it is gone."""
    make_lock_folder(cache, image.file)
    lock = try_hold(cache.lock(image.file))
    if lock is None:
        return False
    with lock:
        if _look(folder_fd, image.uid, image.file) != [image]:
            return False
        os.unlink(image.file, dir_fd=folder_fd)
        _remove_record(folder_fd, image)
        forget_state(cache, image.file)
    return True


def _open_caches(store: Store) -> int:
    state_fd = open_folder(store.state)
    try:
        return open_folder(os.path.basename(store.caches), state_fd)
    finally:
        os.close(state_fd)


def _open_cache(caches_fd: int, name: str) -> tuple[int, int]:
    """Open a user's cache; it must be that user's, or root must be able to tell whose images it removes.

    Raises:
        OSError: it is none, or not this process's to look into.
    """
    fd = os.open(name, _FOLDER, dir_fd=caches_fd)
    owner = os.fstat(fd).st_uid
    if str(owner) != name:
        os.close(fd)
        raise PermissionError(f"{name} belongs to user {owner}")
    return owner, fd


def _look(folder_fd: int, uid: int, file: str) -> list[CachedImage]:
    """Give the image, in a list; an empty one where the name is none."""
    if not file.endswith(SUFFIX) or file.startswith(".") or not file.isprintable():
        return []
    try:
        status = os.stat(file, dir_fd=folder_fd, follow_symlinks=False)
    except OSError:
        return []
    if not stat.S_ISREG(status.st_mode) or status.st_uid != uid:
        return []
    return [CachedImage(uid, file, status.st_size, max(status.st_atime, status.st_mtime))]


def _remove_record(cache_fd: int, image: CachedImage) -> None:
    fds = [cache_fd]
    try:
        for name in (".slurm-fsx", "records"):
            fds.append(os.open(name, _FOLDER, dir_fd=fds[-1]))
            if os.fstat(fds[-1]).st_uid != image.uid:
                raise UntrustedFile(f"{name} in the cache of user {image.uid} belongs to another", hint="remove it")
        os.unlink(f"{image.file}.json", dir_fd=fds[-1])
    except (OSError, UntrustedFile):
        pass  # it never had one
    finally:
        for fd in fds[1:]:
            os.close(fd)
