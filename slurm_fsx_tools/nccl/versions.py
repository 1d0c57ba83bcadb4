"""The versions that stand in ``/fsx/nccl/versions``: seeing them, making one current, letting one go."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from ..errors import InvalidVersion, SlurmFsxError, VersionNotUsable
from ..files import check_owner, move, open_folder, point, read_trusted
from ..folders import make_folder, remove_tree
from ..shared_lock import hold
from ..uses import UNUSED, forget, read_use, read_uses
from .library import LibraryUnusable, library_version
from .manifest import CURRENT, FILE, STAGING, USES, VERSIONS, Manifest, is_version_id, version_folder
from .ofi_plugin import has_plugin

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

LOCK = "switch"
LOCK_TIMEOUT_S = 60.0
"""Whoever has it switches a link or renames a folder."""

LIBRARY = "lib/libnccl.so.2"
_REMOVED = ".removed-"
_OPEN = 0o755
_PRIVATE = 0o700


class Version(NamedTuple):
    """A version that is there."""

    id: str
    manifest: Manifest | None
    problem: str
    """Why it cannot be used; empty where nothing is seen. The library is not loaded for this."""

    is_current: bool
    jobs: list[int]
    """Ids of the jobs that got it, and may still run."""


def make_folders(root: str) -> None:
    """Make the installation's folder and those in it, where they are missing.

    Raises:
        UntrustedFile: somebody else could change what is in one, or has planted something in its place.
        OSError: one cannot be made.
    """
    for path, mode in (
        (root, _OPEN),
        (f"{root}/{VERSIONS}", _OPEN),
        (f"{root}/{USES}", _OPEN),
        (f"{root}/{STAGING}", _PRIVATE),
    ):
        make_folder(path, mode)


def current_id(root: str) -> str:
    """Give the version that `current` leads to; empty where there is none of ours."""
    try:
        target = os.readlink(f"{root}/{CURRENT}")
    except OSError:
        return ""
    folder, _, version_id = target.rpartition("/")
    return version_id if folder == VERSIONS and is_version_id(version_id) else ""


def list_versions(root: str) -> list[Version]:
    """Give all versions, the newest first.

    Raises:
        OSError: the folder cannot be read.
    """
    try:
        ids = [name for name in os.listdir(f"{root}/{VERSIONS}") if is_version_id(name)]
    except FileNotFoundError:
        return []
    try:
        uses = read_uses(f"{root}/{USES}")
    except (OSError, SlurmFsxError):
        uses = {}
    current = current_id(root)
    versions = []
    for version_id in ids:
        manifest = None
        try:
            manifest = read_manifest(root, version_id)
            problem = _missing(root, manifest)
        except (OSError, SlurmFsxError) as error:
            problem = str(error)
        jobs = uses.get(version_id, UNUSED).ids
        versions.append(Version(version_id, manifest, problem, version_id == current, jobs))
    return sorted(versions, key=lambda version: -(version.manifest.installed_s if version.manifest else 0))


def read_manifest(root: str, version_id: str) -> Manifest:
    """Give a version's manifest.

    Raises:
        VersionNotUsable: there is no such version, it was not completed, or its manifest is another one's.
        InvalidManifest, UntrustedFile: the manifest cannot be believed.
        OSError: it cannot be read.
    """
    if not is_version_id(version_id):
        raise InvalidVersion(f"{version_id!r} is no version's id", hint="see: slurm-fsx nccl list")
    folder = version_folder(root, version_id)
    try:
        folder_fd = open_folder(folder)
    except FileNotFoundError:
        raise VersionNotUsable(f"there is no version {version_id} in {root}", hint="see: slurm-fsx nccl list") from None
    try:
        data = read_trusted(FILE, dir_fd=folder_fd)
    except FileNotFoundError:
        raise VersionNotUsable(f"{folder} has no {FILE}", hint="it was not installed by this software") from None
    finally:
        os.close(folder_fd)
    manifest = Manifest.parse(data, f"{folder}/{FILE}")
    if manifest.id != version_id:
        raise VersionNotUsable(f"{folder}/{FILE} is that of {manifest.id}", hint="remove that folder")
    return manifest


def check_usable(root: str, version_id: str) -> Manifest:
    """See that a version is whole: its files are there, root's, and the library loads and is of that version.

    Raises:
        VersionNotUsable: it is not.
        SlurmFsxError, OSError: as for `read_manifest`.
    """
    manifest = read_manifest(root, version_id)
    problem = _missing(root, manifest)
    if not problem:
        library = f"{version_folder(root, version_id)}/{LIBRARY}"
        real = os.path.realpath(library)
        check_owner(real, os.stat(real))
        try:
            found = library_version(library)
        except LibraryUnusable as error:
            problem = error.message
        else:
            if found != manifest.nccl.partition("-")[0]:
                problem = f"{library} is of version {found}, not {manifest.nccl}"
    if problem:
        raise VersionNotUsable(f"{version_id} is broken: {problem}", hint="install it again, or use it with --force")
    return manifest


def activate(root: str, version_id: str) -> None:
    """Make a version current: jobs that start from now on get it; those that run keep theirs.

    Raises:
        VersionNotUsable: there is no such version.
        UntrustedFile: somebody else could have written it.
        OSError: the link cannot be turned.
    """
    if not is_version_id(version_id):
        raise InvalidVersion(f"{version_id!r} is no version's id", hint="see: slurm-fsx nccl list")
    try:
        os.close(open_folder(version_folder(root, version_id)))
    except FileNotFoundError:
        raise VersionNotUsable(f"there is no version {version_id} in {root}", hint="see: slurm-fsx nccl list") from None
    with changing(root):
        point(f"{root}/{CURRENT}", f"{VERSIONS}/{version_id}")


def remove_version(root: str, version_id: str, ended: Collection[str] | None) -> None:
    """Remove a version with what is known of its use.

    Args:
        root: ``/fsx/nccl``.
        version_id: Never the current one.
        ended: The jobs with a marker that are known to have ended. If there is another one by now, the version stays.
            None: whoever uses it loses it.

    Raises:
        VersionNotUsable: it is current, in use, or not there.
        LockTimeout: others are changing versions.
        UntrustedFile: somebody else could write where it is.
        OSError: it cannot be removed.
    """
    if not is_version_id(version_id):
        raise InvalidVersion(f"{version_id!r} is no version's id", hint="see: slurm-fsx nccl list")
    folder = version_folder(root, version_id)
    gone = f"{root}/{STAGING}/{_REMOVED}{version_id}"
    with changing(root):
        if current_id(root) == version_id:
            raise VersionNotUsable(f"{version_id} is current", hint="switch first: slurm-fsx nccl use ID")
        _clear_removed(root)
        _check_unused(root, version_id, ended)
        if not os.path.lexists(folder):
            raise VersionNotUsable(f"there is no version {version_id} in {root}", hint="see: slurm-fsx nccl list")
        move(folder, gone)
        try:
            # A job that asked for it by name may have begun since; nobody can find it any more now.
            _check_unused(root, version_id, ended)
        except BaseException:
            move(gone, folder)
            raise
        forget(f"{root}/{USES}", version_id)
    remove_tree(gone)


def clear_removed(root: str) -> None:
    """Delete what removals that were killed have left; nothing where nothing is installed.

    Raises:
        LockTimeout: others are changing versions.
        OSError: the folder cannot be read.
    """
    if os.path.isdir(f"{root}/{STAGING}"):
        with changing(root):
            _clear_removed(root)


@contextmanager
def changing(root: str) -> Iterator[None]:
    """Hold the lock of those who switch and remove.

    Raises:
        LockTimeout: somebody else holds it for long.
    """
    make_folders(root)
    with hold(f"{root}/{STAGING}/{LOCK}", timeout_s=LOCK_TIMEOUT_S):
        yield


def _clear_removed(root: str) -> None:
    for name in os.listdir(f"{root}/{STAGING}"):
        if not name.startswith(_REMOVED):
            continue
        gone, version_id = f"{root}/{STAGING}/{name}", name[len(_REMOVED) :]
        if read_use(f"{root}/{USES}", version_id).jobs and not os.path.lexists(version_folder(root, version_id)):
            # A removal forgets the jobs when nothing speaks against it any more: this one was killed before.
            move(gone, version_folder(root, version_id))
        else:
            # A removal that still runs, without the lock, only deletes it, too.
            remove_tree(gone)


def _check_unused(root: str, version_id: str, ended: Collection[str] | None) -> None:
    if ended is None:
        return
    jobs = read_use(f"{root}/{USES}", version_id).jobs.difference(ended)
    if jobs:
        shown = ", ".join(sorted(jobs)[:5]) + ("…" if len(jobs) > 5 else "")
        raise VersionNotUsable(
            f"{version_id} is in use by job {shown}", hint="wait until it has ended, or remove it with --force"
        )


def _missing(root: str, manifest: Manifest) -> str:
    """Say what a version lacks; empty where nothing."""
    folder = version_folder(root, manifest.id)
    if not os.path.isfile(f"{folder}/{LIBRARY}"):
        return f"{folder}/{LIBRARY} is missing"
    if manifest.ofi and not has_plugin(manifest.ofi_folder):
        return f"there is no network plugin in {manifest.ofi_folder}"
    return ""
