"""Unpacks tarballs and wheels, and copies folders, so that nothing gets out of the folder they belong into.

By hand: tarfile's data filter came with later releases of Python than the first that this runs on.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from typing import IO, TYPE_CHECKING

from ...errors import InstallFailed

if TYPE_CHECKING:
    from collections.abc import Iterable

_CHUNK_BYTES = 1 << 20
_DAMAGED = (tarfile.TarError, EOFError, zlib.error)


def unpack_tarball(path: str, folder: str, sha256: str = "") -> str:
    """Unpack a tarball into a new folder, without the one folder that all of its files are in; give its SHA-256.

    Raises:
        InstallFailed: its checksum is another one, it is damaged, or a member leaves the folder, is a hard link or a
            device, or stands where another one does.
        OSError: it cannot be read, or there is no room.
    """
    with open(path, "rb") as file:
        found = _check_sum(file, path, sha256)
        try:
            with tarfile.open(fileobj=file) as archive:
                _unpack(archive, path, folder)
        except _DAMAGED as error:
            raise InstallFailed(f"{path} is no whole tarball: {error}", hint="get it again") from error
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise _refusal(path, os.path.relpath(error.filename or folder, folder), "is there twice") from error
    return found


def unpack_wheel(path: str, folder: str, sha256: str = "") -> str:
    """Take NCCL's library and headers out of a wheel of NVIDIA's, into lib and include; give its SHA-256.

    Raises:
        InstallFailed: as for `unpack_tarball`, or there is no NCCL in it.
        OSError: it cannot be read, or there is no room.
    """
    with open(path, "rb") as file:
        found = _check_sum(file, path, sha256)
        os.makedirs(folder)
        try:
            with zipfile.ZipFile(file) as archive:
                members = [member for member in archive.infolist() if not member.is_dir()]
                for member in members:
                    _place(member.filename, path)
                for member in members:
                    parts = _place(member.filename, path).split("/")
                    if parts[:2] != ["nvidia", "nccl"] or parts[2:3] not in (["lib"], ["include"]):
                        continue
                    if stat.S_ISLNK(member.external_attr >> 16):
                        raise _refusal(path, member.filename, "is a symbolic link")
                    with archive.open(member) as content:
                        _write(folder, "/".join(parts[2:]), content, 0o644, path)
        except (zipfile.BadZipFile, *_DAMAGED) as error:
            raise InstallFailed(f"{path} is no whole wheel: {error}", hint="get it again") from error
    if not os.path.isfile(f"{folder}/lib/libnccl.so.2"):
        raise InstallFailed(f"there is no NCCL in {path}", hint="name a wheel of nvidia-nccl-cu12 or -cu13")
    if not os.path.lexists(f"{folder}/lib/libnccl.so"):
        os.symlink("libnccl.so.2", f"{folder}/lib/libnccl.so")  # what a linker looks for
    return found


def copy_folder(source: str, folder: str) -> str:
    """Copy a folder without Git's own; give a SHA-256 over all names and contents.

    Raises:
        InstallFailed: there is a device, or a link that leaves the folder, in it.
        OSError: it cannot be read, or there is no room.
    """

    def skip(path: str, names: list[str]) -> Iterable[str]:
        skipped = []
        for name in names:
            mode = os.lstat(f"{path}/{name}").st_mode
            if path == source and name == ".git":
                skipped.append(name)
            elif not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
                raise _refusal(source, os.path.relpath(f"{path}/{name}", source), "is no file, folder or link")
        return skipped

    try:
        shutil.copytree(source, folder, symlinks=True, ignore=skip)
    except shutil.Error as error:
        # It goes on after the first that fails; a full disk is to be told as one.
        reason = str(error.args[0][0][2])
        if "Errno 28" in reason or "Errno 122" in reason:
            raise OSError(28, "No space left on device", folder) from error
        raise InstallFailed(f"{source} cannot be copied: {reason}", hint="see who may read it") from error
    check_links(folder, source)
    return _digest(folder)


def check_links(folder: str, name: str) -> None:
    """See that every symbolic link in a folder, once all is there, leads to something in it.

    Raises:
        InstallFailed: one does not.
    """
    real = os.path.realpath(folder)
    for above, folders, files in os.walk(folder):
        for entry in (*folders, *files):
            path = f"{above}/{entry}"
            if os.path.islink(path) and not f"{os.path.realpath(path)}/".startswith(f"{real}/"):
                raise _refusal(name, os.path.relpath(path, folder), f"is a link to {os.readlink(path)}")


def sum_file(file: IO[bytes]) -> str:
    """Give the SHA-256 of an open file, and stand at its beginning again."""
    digest = hashlib.sha256()
    for chunk in iter(lambda: file.read(_CHUNK_BYTES), b""):
        digest.update(chunk)
    file.seek(0)
    return digest.hexdigest()


def _check_sum(file: IO[bytes], path: str, wanted: str) -> str:
    found = sum_file(file)
    if wanted and found != wanted:
        raise InstallFailed(f"{path} has the SHA-256 {found}, not {wanted}", hint="get it again; nothing was unpacked")
    return found


def _unpack(archive: tarfile.TarFile, path: str, folder: str) -> None:
    os.makedirs(folder)
    members = archive.getmembers()
    places = [_place(member.name, path) for member in members]
    tops = {place.partition("/")[0] for place in places if place != "."}
    is_wrapped = len(tops) == 1 and all(member.isdir() for member, at in zip(members, places) if at in tops)
    links = []
    for member, place in zip(members, places):
        inner = place.partition("/")[2] if is_wrapped else place
        if member.isdir():
            if inner and inner != ".":
                os.makedirs(f"{folder}/{inner}", exist_ok=True)
        elif member.issym():
            links.append((inner, member))
        elif member.isreg():
            content = archive.extractfile(member)
            assert content is not None
            _write(folder, inner, content, 0o755 if member.mode & 0o111 else 0o644, path)
            # make goes by these: a generated file must not look older than what it was made of.
            os.utime(f"{folder}/{inner}", (member.mtime, member.mtime))
        else:
            raise _refusal(path, member.name, "is a hard link" if member.islnk() else "is no file or folder")
    # Last, so that nothing is written through one, not even another link; only then it is known where each one leads.
    of_links = {inner for inner, _ in links}
    for inner, member in links:
        above = inner.split("/")[:-1]
        if any("/".join(above[:depth]) in of_links for depth in range(1, len(above) + 1)):
            raise _refusal(path, member.name, "is below a link")
        _make_parents(folder, inner)
        try:
            os.symlink(member.linkname, f"{folder}/{inner}")
        except FileExistsError:
            raise _refusal(path, member.name, "is there twice") from None
    check_links(folder, path)


def _place(name: str, path: str) -> str:
    """Give a member's place in its folder."""
    if name.startswith("/") or ".." in name.split("/") or "\0" in name or "\\" in name:
        raise _refusal(path, name, "leaves the folder")
    return os.path.normpath(name)


def _write(folder: str, inner: str, content: IO[bytes], mode: int, path: str) -> None:
    if not inner or inner == ".":
        raise _refusal(path, inner, "is in no folder")
    _make_parents(folder, inner)
    try:
        fd = os.open(f"{folder}/{inner}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    except FileExistsError:
        raise _refusal(path, inner, "is there twice") from None
    with os.fdopen(fd, "wb") as file:
        os.fchmod(fd, mode)
        shutil.copyfileobj(content, file, _CHUNK_BYTES)


def _make_parents(folder: str, inner: str) -> None:
    os.makedirs(os.path.dirname(f"{folder}/{inner}"), exist_ok=True)


def _refusal(path: str, member: str, why: str) -> InstallFailed:
    return InstallFailed(f"{member!r} in {path} {why}", hint="do not trust it; get it from where it was released")


def _digest(folder: str) -> str:
    digest = hashlib.sha256()
    for above, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            path = f"{above}/{name}"
            digest.update(os.path.relpath(path, folder).encode(errors="surrogateescape") + b"\0")
            if os.path.islink(path):
                digest.update(os.readlink(path).encode(errors="surrogateescape"))
            else:
                with open(path, "rb") as file:
                    digest.update(bytes.fromhex(sum_file(file)))
    return digest.hexdigest()
