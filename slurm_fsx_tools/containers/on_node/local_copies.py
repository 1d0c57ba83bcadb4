"""Copies of images on a node's own disk, as many as fit, the least recently used going first.

A copy has its source's name, owner, mode, size and modification time to the ns; with another size or time it is a copy
of something that was, and nobody uses it. Its time of access says when it was last used.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from ...errors import SlurmFsxError, UntrustedFile
from ...files import check_owner, publish, remove
from ...shared_lock import SharedLock, hold, try_hold
from ..names import SUFFIX
from ..records import describes, read_record
from ..squashfs import SUPERBLOCK_BYTES, why_unusable
from ..store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...config.model import Config

FOLDER = "slurm-fsx-images"
LOCK = ".lock"
_UNFINISHED = ".copy-"

_CHUNK_BYTES = 4 << 20
_FREE_SHARE = 20
"""One in so many bytes of the disk stays free: others use it too."""


class Identity(NamedTuple):
    """What tells a file from an older one of its name."""

    size_bytes: int
    modified_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        return cls(status.st_size, status.st_mtime_ns)


class Copy(NamedTuple):
    """An image on this node's disk."""

    file: str
    size_bytes: int
    used_s: float
    """When it was last used, in seconds since 1970."""


class CannotCopy(SlurmFsxError):
    """An image that does not get onto this node's disk."""


class LocalCopies:
    """The copies on this node.

    Args:
        stage: A folder on the node's own disk, e.g. ``/scratch``; the copies are in a folder in it.
        limit_bytes: How much they may take.
    """

    def __init__(self, stage: str, limit_bytes: int) -> None:
        self.folder = f"{stage}/{FOLDER}"
        self._limit_bytes = limit_bytes

    @classmethod
    def configured(cls, config: Config) -> LocalCopies | None:
        """Give those that a configuration asks for; None where it asks for none."""
        stage = config["containers.stage"]
        return cls(stage, config["containers.stage_limit"]) if stage else None

    def find(self, file: str, source: Identity) -> str | None:
        """Give the path of a copy, marked as used now; None where there is none that is whole, ours to read and alike.

        Args:
            file: The image's name in the catalogue.
            source: What it is there, now.
        """
        path = f"{self.folder}/{file}"
        try:
            check_owner(self.folder, os.stat(self.folder, follow_symlinks=False))
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, UntrustedFile):
            return None
        try:
            status = os.fstat(fd)
            # Reading also sets the time of access, for users who may not set it.
            head = os.pread(fd, SUPERBLOCK_BYTES, 0)
            if not stat.S_ISREG(status.st_mode) or Identity.of(status) != source or why_unusable(head, status.st_size):
                return None
            _mark_used(fd, status)
        except OSError:
            return None
        finally:
            os.close(fd)
        return path

    def copies(self) -> list[Copy]:
        """List the copies, the least recently used first; a folder that is not there has none.

        Raises:
            OSError, UntrustedFile: as for `add`.
        """
        try:
            folder_fd = self._open()
        except FileNotFoundError:
            return []
        try:
            return _list(folder_fd)
        finally:
            os.close(folder_fd)

    def lock(self, timeout_s: float | None = 0.0, on_wait: Callable[[str], None] | None = None) -> SharedLock | None:
        """Become the one who changes copies on this node; None where another process does.

        Args:
            timeout_s: How long to wait for it; None for as long as it takes.
            on_wait: Told whom this waits for.

        Raises:
            LockTimeout: somebody else was busy for all that time.
            OSError, UntrustedFile: as for `add`.
        """
        try:
            os.mkdir(self.folder, 0o755)
            os.chmod(self.folder, 0o755)  # noqa: S103  # users read the copies, whatever the umask is
        except FileExistsError:
            pass
        os.close(self._open())
        if timeout_s == 0:
            return try_hold(f"{self.folder}/{LOCK}")
        return hold(
            f"{self.folder}/{LOCK}",
            timeout_s=timeout_s,
            on_wait=lambda owner: on_wait(f"process {owner.pid} copies images") if on_wait else None,
        )

    def add(self, store: Store, file: str) -> str:
        """Copy an image from the catalogue, under the lock; give the copy's path.

        Others are removed where there is no room, but only if that makes enough. What is left of copiers that died,
        and copies that are broken, go first.

        Args:
            store: The catalogue.
            file: The image's name in it; no path.

        Raises:
            CannotCopy: it is larger than all copies may be, the disk is too full, or it changed meanwhile or is broken.
            OSError: a folder is missing or cannot be used, or the disk is full.
            UntrustedFile: somebody else could write among the copies, or the image is no file.
        """
        source_path = store.path(file)
        folder_fd = self._open()
        try:
            self._clean(folder_fd)
            source_fd = os.open(source_path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                status = os.fstat(source_fd)
                if _has_acl(source_fd):
                    # Its mode does not say who may read it, and what was copied before can be read by others.
                    remove(file, dir_fd=folder_fd)
                    raise CannotCopy(
                        f"{source_path} has an access control list", hint="give rights by owner, group and mode alone"
                    )
                if not stat.S_ISREG(status.st_mode):
                    raise UntrustedFile(f"{source_path} is no regular file", hint="remove it")
                found = self.find(file, Identity.of(status))
                if found is not None:
                    _give_access(folder_fd, file, status)
                    return found
                self._make_room(folder_fd, file, status.st_size)
                record = read_record(store, file)
                sha256 = record.sha256 if record is not None and describes(record, status) else ""
                self._copy(source_fd, source_path, status, sha256, folder_fd, file)
            finally:
                os.close(source_fd)
        finally:
            os.close(folder_fd)
        return f"{self.folder}/{file}"

    def evict(self, files: list[str] | None = None) -> list[Copy]:
        """Remove copies, all without `files`, under the lock; give those that were there."""
        folder_fd = self._open()
        try:
            self._clean(folder_fd)
            gone = [copy for copy in _list(folder_fd) if files is None or copy.file in files]
            for copy in gone:
                remove(copy.file, dir_fd=folder_fd)
        finally:
            os.close(folder_fd)
        return gone

    def clean(self) -> list[str]:
        """Remove what copiers that died have left, and copies that are broken, under the lock; give their names."""
        folder_fd = self._open()
        try:
            return self._clean(folder_fd)
        finally:
            os.close(folder_fd)

    def _open(self) -> int:
        """Open the folder, which only root, or this process's user, can write to."""
        try:
            fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except NotADirectoryError:  # what O_NOFOLLOW makes of a link to a folder, too
            raise UntrustedFile(f"{self.folder} is no folder", hint="remove it") from None
        try:
            check_owner(self.folder, os.fstat(fd))
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _clean(self, folder_fd: int) -> list[str]:
        gone = []
        for name in os.listdir(folder_fd):
            if name.startswith(_UNFINISHED) or (name.endswith(SUFFIX) and _is_broken(name, folder_fd)):
                remove(name, dir_fd=folder_fd)
                gone.append(name)
        return gone

    def _make_room(self, folder_fd: int, file: str, size_bytes: int) -> None:
        if size_bytes > self._limit_bytes:
            raise CannotCopy(
                f"{file} has {size_bytes} bytes, more than containers.stage_limit ({self._limit_bytes})",
                hint="raise the limit, or leave it on the shared file system",
            )
        disk = os.fstatvfs(folder_fd)
        kept_bytes = disk.f_blocks * disk.f_frsize // _FREE_SHARE
        free_bytes = disk.f_bavail * disk.f_frsize - kept_bytes
        copies = _list(folder_fd)
        taken_bytes = sum(copy.size_bytes for copy in copies)
        # An older copy of this image goes in any case.
        copies.sort(key=lambda copy: copy.file != file)
        gone = []
        for copy in copies:
            if copy.file != file and size_bytes <= min(self._limit_bytes - taken_bytes, free_bytes):
                break
            gone.append(copy)
            taken_bytes -= copy.size_bytes
            free_bytes += copy.size_bytes
        if size_bytes > free_bytes:
            raise CannotCopy(
                f"{file} has {size_bytes} bytes, and {self.folder} has room for {max(0, free_bytes)} only, "
                "with all other copies gone",
                hint="remove what else is on that disk; one twentieth of it stays free",
            )
        for copy in gone:
            remove(copy.file, dir_fd=folder_fd)

    def _copy(
        self, source_fd: int, source_path: str, status: os.stat_result, sha256: str, folder_fd: int, file: str
    ) -> None:
        import hashlib  # takes long to import, and only a copier needs it

        temporary = f"{_UNFINISHED}{os.urandom(8).hex()}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(temporary, flags, 0o600, dir_fd=folder_fd)
        try:
            try:
                if status.st_size:
                    os.posix_fallocate(fd, 0, status.st_size)  # a full disk is known before a long copy
                checksum = hashlib.sha256()
                offset = 0
                while chunk := os.pread(source_fd, _CHUNK_BYTES, offset):
                    checksum.update(chunk)
                    view = memoryview(chunk)
                    while view:
                        offset += (written := os.pwrite(fd, view, offset))
                        view = view[written:]
                os.ftruncate(fd, offset)
                now = os.fstat(source_fd)
                try:
                    is_there = os.path.samestat(now, os.stat(source_path, follow_symlinks=False))
                except FileNotFoundError:
                    is_there = False
                if (
                    _has_acl(source_fd)
                    or not is_there
                    or Identity.of(now) != Identity.of(status)
                    or offset != status.st_size
                ):
                    raise CannotCopy(f"{source_path} was changed while it was copied", hint="copy it again")
                reason = why_unusable(os.pread(fd, SUPERBLOCK_BYTES, 0), offset)
                if not reason and sha256 and checksum.hexdigest() != sha256:
                    reason = f"its sha256 is {checksum.hexdigest()}, and was {sha256} when it was imported"
                if reason:
                    raise CannotCopy(f"{source_path}: {reason}", hint="see: slurm-fsx containers verify")
                _set_access(fd, now)
                _mark_used(fd, status)
            finally:
                os.close(fd)
            folder = f"/proc/self/fd/{folder_fd}"  # the one that was checked
            publish(f"{folder}/{temporary}", f"{folder}/{file}")
        except BaseException:
            remove(temporary, dir_fd=folder_fd)
            raise


def _give_access(folder_fd: int, file: str, source: os.stat_result) -> None:
    """Let those read a copy who may read its source now: that can change while the content does not."""
    fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder_fd)
    try:
        _set_access(fd, source)
    finally:
        os.close(fd)


def _set_access(fd: int, source: os.stat_result) -> None:
    if os.geteuid() == 0:
        os.fchown(fd, source.st_uid, source.st_gid)
    os.fchmod(fd, stat.S_IMODE(source.st_mode) & 0o777)


def _has_acl(fd: int) -> bool:
    """Whether more, or less, than a file's mode says who may read it."""
    try:
        os.getxattr(fd, "system.posix_acl_access")
    except OSError:
        return False  # none, or a file system without
    return True


def _list(folder_fd: int) -> list[Copy]:
    """Give the copies in an open folder, the least recently used first."""
    copies = []
    for name in os.listdir(folder_fd):
        if name.startswith(".") or not name.endswith(SUFFIX):
            continue
        try:
            status = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
        except FileNotFoundError:
            continue
        copies.append(Copy(name, status.st_size, status.st_atime))
    return sorted(copies, key=lambda copy: (copy.used_s, copy.file))


def _is_broken(name: str, folder_fd: int) -> bool:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder_fd)
    except OSError:
        return True
    try:
        status = os.fstat(fd)
        head = os.pread(fd, SUPERBLOCK_BYTES, 0)
        # To look at it is not to use it.
        os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
        return not stat.S_ISREG(status.st_mode) or bool(why_unusable(head, status.st_size))
    except OSError:
        return True
    finally:
        os.close(fd)


def _mark_used(fd: int, status: os.stat_result) -> None:
    """Set the time of access to now, and the time of modification to a known one."""
    import time

    try:
        os.utime(fd, ns=(time.time_ns(), status.st_mtime_ns))
    except PermissionError:
        pass  # another user's: whoever copies goes by the time of the last read
