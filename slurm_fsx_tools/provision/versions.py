"""The versions of this software on a machine, side by side, and the link that says which one runs.

    /opt/slurm-fsx -> slurm-fsx-versions/0.2.0-3f9a2b7c1d2e    what slurm.conf, plugstack.conf and units name
    /opt/slurm-fsx-versions/0.1.0-90f1c3b2d4e5/                whole versions, each a small virtual environment
    /opt/slurm-fsx-versions/previous -> 0.1.0-90f1c3b2d4e5     where a roll-back goes

A switch turns one link, so a job that starts meanwhile gets the old version or the new one. Whatever runs has resolved
the link once, and stays with its version; the last few are kept, and those that a command still runs from.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from ..errors import LockTimeout, SlurmFsxError
from ..files import exchange, move, point
from ..folders import make_folder, remove_tree
from .archives import MANIFEST, NotInstalled, check_whole, copy_version, finish, read_id, sum_file

if TYPE_CHECKING:
    from collections.abc import Iterator

KEPT = 3
"""How many versions stay: the one that runs, the previous one, and one more."""

PREVIOUS = "previous"
BEFORE = "made-by-make-install"
"""What becomes of a folder that `make install` made where the link is to be."""

_STAGED = ".staged-"
_OLD = ".old-"
_TURN_S = 600.0
_LOOK_S = 0.2


class Switch(NamedTuple):
    """A version that was made the one that runs."""

    id: str
    before: str
    """The one that ran until then; an empty string if there was none."""

    note: str = ""
    """What an admin should know besides; an empty string if there is nothing."""


class Version(NamedTuple):
    """A version on this machine."""

    id: str
    is_current: bool
    is_previous: bool


def versions_folder(prefix: str) -> str:
    """Give the folder that holds the versions behind a link."""
    return f"{prefix.rstrip('/')}-versions"


def current_id(prefix: str) -> str:
    """Name the version that runs; an empty string if the link leads to none."""
    return _id_of(prefix) if os.path.isdir(prefix) else ""


def list_versions(prefix: str) -> list[Version]:
    """List the whole versions, the newest first."""
    folder = versions_folder(prefix)
    current, previous = current_id(prefix), _id_of(f"{folder}/{PREVIOUS}")
    return [Version(each, each == current, each == previous) for each in _ids(folder)]


def place(source: str, prefix: str, with_plugin: bool = True) -> Switch:
    """Put an unpacked archive on this machine, and let it be the version that runs.

    Killed at any point, it leaves the version that ran before, and the next call clears away what it left.

    Args:
        source: The folder that the archive holds.
        prefix: The link by which everything knows this software.
        with_plugin: Whether it is an error that the archive has no plugin for the Slurm that is here.

    Raises:
        NotInstalled: the archive is not whole, or does not run here.
        LockTimeout: another call goes on for very long.
        OSError: the disk is full or read-only.
    """
    folder = versions_folder(prefix)
    version_id = read_id(source)
    make_folder(folder, 0o755)
    with _turn(folder):
        _clear(folder)
        final = f"{folder}/{version_id}"
        staged = f"{folder}/{_STAGED}{version_id}"
        note = ""
        try:
            copy_version(source, staged)
            check_whole(staged)
            note = finish(staged, prefix, final, with_plugin)
            _flush(staged)
            if not os.path.isdir(final):
                move(staged, final)
            elif not _is_same(staged, final):
                exchange(staged, final)
        finally:
            _clear(folder)
        done = _switch(prefix, version_id)._replace(note=note)
        _prune(prefix)
    return done


def upgrade(archive: str, prefix: str, sha256: str, arguments: list[str]) -> int:
    """Unpack an archive, and run the installer in it: it knows best how its version is put on a machine.

    Args:
        archive: The file; it may lie on a shared file system.
        prefix: The link by which everything knows this software.
        sha256: What it must be; an empty string for what stands in the file beside it.
        arguments: More of the installer's.

    Returns:
        The installer's exit code.

    Raises:
        NotInstalled: the archive is not what it should be.
    """
    wanted = sha256 or _sum_beside(archive)
    folder = versions_folder(prefix)
    make_folder(folder, 0o755)
    with _turn(folder):
        _clear(folder)
    unpacked = f"{folder}/.unpacked-{os.getpid()}"
    os.mkdir(unpacked, 0o700)
    try:
        # The copy is what is summed and unpacked: on a shared file system the archive may change in between.
        copy = f"{unpacked}/archive.tar.gz"
        shutil.copyfile(archive, copy)
        if sum_file(copy) != wanted:
            raise NotInstalled(
                f"{archive} has not the SHA-256 {wanted}", hint="copy it again; if that does not help, do not use it"
            )
        done = subprocess.run(["tar", "-xzf", copy, "-C", unpacked, "--no-same-owner"], check=False)
        found = [name for name in os.listdir(unpacked) if os.path.isfile(f"{unpacked}/{name}/install.sh")]
        if done.returncode != 0 or len(found) != 1:
            raise NotInstalled(
                f"{archive} could not be unpacked", hint="is the disk full, or is it no archive of ours?"
            )
        command = ["/bin/sh", f"{unpacked}/{found[0]}/install.sh", f"--prefix={prefix}", *arguments]
        return subprocess.run(command, check=False).returncode
    finally:
        remove_tree(unpacked)


def roll_back(prefix: str, version_id: str = "") -> Switch:
    """Go back to the version that ran before, or to another that is still here.

    Raises:
        NotInstalled: there is none.
    """
    folder = versions_folder(prefix)
    if not os.path.isdir(folder):
        raise NotInstalled(
            f"{prefix} is no link to a version", hint="only what was installed from an archive can go back"
        )
    with _turn(folder):
        wanted = version_id or _id_of(f"{folder}/{PREVIOUS}")
        if wanted not in _ids(folder) or wanted == current_id(prefix):
            there = ", ".join(_ids(folder)) or "none"
            raise NotInstalled(
                f"there is no version {wanted!r} to go to" if wanted else "no version ran before this one",
                hint=f"here are: {there}; the current one is {current_id(prefix) or 'none'}",
            )
        if os.path.exists(f"{folder}/{wanted}/{MANIFEST}"):
            check_whole(f"{folder}/{wanted}")
        return _switch(prefix, wanted)


def _switch(prefix: str, version_id: str) -> Switch:
    folder = versions_folder(prefix)
    before = current_id(prefix)
    if before == version_id:
        return Switch(version_id, before)
    target = f"{os.path.basename(folder)}/{version_id}"
    if before:
        # First: killed between the two, a roll-back finds nothing to do, rather than the wrong version.
        point(f"{folder}/{PREVIOUS}", before)
        point(prefix, target)
    elif os.path.isdir(prefix) and not os.path.islink(prefix):
        before = _take_over(prefix, target)
    else:
        point(prefix, target)
    _flush(os.path.dirname(prefix))
    return Switch(version_id, before)


def _take_over(prefix: str, target: str) -> str:
    """Put the link where `make install` has made a folder, in one step, and keep the folder to go back to."""
    folder = versions_folder(prefix)
    kept = f"{folder}/{BEFORE}"
    remove_tree(kept)
    point(kept, os.path.join(os.path.dirname(prefix), target))
    try:
        exchange(kept, prefix)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EXDEV):
            raise
        # A file system that cannot swap: prologs find nothing for a moment, and let their jobs start without us.
        os.unlink(kept)
        try:
            move(prefix, kept)
        except OSError as second:
            if second.errno != errno.EXDEV:
                raise
            # Source: Linux, Documentation/filesystems/overlayfs: folders of a lower layer are not renamed.
            raise SlurmFsxError(
                f"{prefix} cannot be renamed: it is of a lower layer of an overlay, as a stateless node has it",
                hint=f"run: mv {prefix} {prefix}.old (mv copies it), then the same command again",
            ) from second
    point(prefix, target)
    point(f"{folder}/{PREVIOUS}", BEFORE)
    return BEFORE


def _prune(prefix: str) -> None:
    """Remove old versions, but those that are needed, and those that something still runs from."""
    folder = versions_folder(prefix)
    needed = {current_id(prefix), _id_of(f"{folder}/{PREVIOUS}")}
    others = [each for each in _ids(folder) if each not in needed]
    for each in others[KEPT - len(needed) :]:
        fd = os.open(f"{folder}/{each}", os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # bin/slurm-fsx holds a shared one while it runs
        except OSError:
            continue
        finally:
            os.close(fd)
        # A half-removed version must not be taken for a whole one.
        move(f"{folder}/{each}", f"{folder}/{_OLD}{each}")
        remove_tree(f"{folder}/{_OLD}{each}")


def _ids(folder: str) -> list[str]:
    """Name the versions that are there, the one that was put there last first."""
    with os.scandir(folder) as entries:
        found = [
            (entry.stat().st_mtime_ns, entry.name)
            for entry in entries
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
        ]
    return [name for _, name in sorted(found, reverse=True)]


def _id_of(link: str) -> str:
    try:
        return os.path.basename(os.readlink(link))
    except OSError:
        return ""


def _is_same(staged: str, final: str) -> bool:
    """Whether a version that is there already is the one that was staged, and whole."""
    try:
        check_whole(final)
    except (NotInstalled, OSError):
        return False
    same = [f"{each}/bin/python3" for each in (staged, final)]
    return (
        sum_file(f"{staged}/{MANIFEST}") == sum_file(f"{final}/{MANIFEST}") and len({*map(os.path.realpath, same)}) == 1
    )


def _clear(folder: str) -> None:
    """Remove what a call that was killed has left."""
    for name in os.listdir(folder):
        pid = name.rpartition("-")[2]
        if name.startswith((_STAGED, _OLD)) or (name.startswith(".unpacked-") and not os.path.exists(f"/proc/{pid}")):
            remove_tree(f"{folder}/{name}")


@contextmanager
def _turn(folder: str) -> Iterator[None]:
    """Wait until no other call is at it: the second of two finds its version there."""
    fd = os.open(f"{folder}/.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    deadline = time.monotonic() + _TURN_S
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno != errno.EWOULDBLOCK:
                    raise
            if time.monotonic() > deadline:
                raise LockTimeout(f"somebody holds {folder}/.lock", hint="see what install.sh does there")
            time.sleep(_LOOK_S)
        yield
    finally:
        os.close(fd)


def _flush(folder: str) -> None:
    """Have all of this folder's file system on disk. Not sync(2): that would wait for a /fsx that hangs, too."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        ctypes.CDLL(None).syncfs(fd)
    finally:
        os.close(fd)


def _sum_beside(archive: str) -> str:
    try:
        with open(f"{archive}.sha256") as file:
            return file.read(64)
    except FileNotFoundError:
        raise NotInstalled(
            f"{archive}.sha256 is missing", hint="copy it, too; or say --sha256 with what make dist printed"
        ) from None
