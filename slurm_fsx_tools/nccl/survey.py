"""A look at ``/fsx/nccl``: taken in a child by ``SharedFs.look``, so all that goes in and out is what json can carry.

Where nothing has changed, it costs three file-system calls: the folder, the setup script, the version file.
"""

from __future__ import annotations

import os
import stat
from typing import Any

from ..errors import SlurmFsxError, UntrustedFile
from ..files import check_owner, check_trusted

SETUP_SCRIPT = "setup-nccl-env.sh"
VERSION_FILE = ".nccl_version"

_VERSION_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._+-")
_VERSION_LIMIT_BYTES = 128


def survey(folder: str, known_key: str, limit_s: float) -> dict[str, Any] | None:
    """See what stands in a folder.

    Args:
        folder: ``/fsx/nccl``.
        known_key: The key of the last answer, if that still counts; else empty.
        limit_s: How long a setup script may take.

    Returns:
        None where there is no installation. Else ``key``, which changes whenever the answer may, and, unless it is the
        known one, ``installation`` with the fields of an `Installation`, and ``is_final``: False if a later look may
        find more although nothing here has changed.

    Raises:
        OSError: the folder cannot be read.
    """
    try:
        folder_status = os.lstat(folder)
        script_status = os.lstat(f"{folder}/{SETUP_SCRIPT}")
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        return _untrusted(known_key, folder, f"{folder} is no folder; put the installation there")
    try:
        if stat.S_ISLNK(folder_status.st_mode):
            raise UntrustedFile(f"{folder} is a symbolic link", hint="put the folder itself there, or mount it")
        check_owner(folder, folder_status)
        check_trusted(f"{folder}/{SETUP_SCRIPT}", script_status)
    except UntrustedFile as error:
        return _untrusted(known_key, folder, str(error))
    version, fault = _read_version(f"{folder}/{VERSION_FILE}")
    key = f"{folder}:{_identity(script_status)}:{version}{fault}"
    if key == known_key:
        return {"key": key}
    return {"key": key, **_examine(folder, version, [fault] if fault else [], limit_s)}


def _identity(status: os.stat_result) -> str:
    return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"


def _untrusted(known_key: str, folder: str, reason: str) -> dict[str, Any]:
    if reason == known_key:
        return {"key": reason}
    note = f"jobs get nothing of {folder}: {reason}"
    return {"key": reason, "installation": {"folder": folder, "is_trusted": False, "notes": [note]}, "is_final": True}


def _examine(folder: str, version: str, notes: list[str], limit_s: float) -> dict[str, Any]:
    # Here, not above: a prolog that finds nothing new loads neither.
    from .ofi_plugin import INSTALLER_FOLDERS, find_tuner
    from .setup_script import Exports, sort_exports, source_script

    script = f"{folder}/{SETUP_SCRIPT}"
    exports = Exports({}, {}, {})
    is_final = True
    try:
        exports = sort_exports(source_script(script, limit_s))
    except SlurmFsxError as error:
        # Its fault, or that of a slow file system: who knows. Not asked again at each job, but not never.
        notes.append(f"{script} was not used, jobs get the documented variables alone: {error}")
        is_final = False
    for reason in dict.fromkeys(exports.refused.values()):
        names = [name for name in exports.refused if exports.refused[name] == reason]
        notes.append(f"jobs do not get {', '.join(names)} of {script}: that {reason}")

    exported = exports.variables.pop("NCCL_VERSION", "")
    search_path = exports.lists.pop("LD_LIBRARY_PATH", [])
    own = [entry for entry in search_path if _is_below(entry, folder)]
    if not own:
        present = [name for name in ("lib", "lib64") if os.path.isdir(f"{folder}/{name}")]
        if not present:
            notes.append(f"{folder} has neither lib nor lib64: LD_LIBRARY_PATH names a folder that is not there yet")
            is_final = False
        own = [f"{folder}/{present[0] if present else 'lib'}"]
    elsewhere = [entry for entry in search_path if entry not in own]
    if elsewhere:
        exports.lists["LD_LIBRARY_PATH"] = elsewhere
    return {
        "installation": {
            "folder": folder,
            "is_trusted": True,
            "library_folders": own,
            "version": version or (exported if _is_version(exported) else ""),
            "variables": exports.variables,
            "lists": exports.lists,
            "tuner": find_tuner([*own, *elsewhere, *INSTALLER_FOLDERS]),
            "notes": notes,
        },
        "is_final": is_final,
    }


def _read_version(path: str) -> tuple[str, str]:
    """Read the version file; give its word, and what is wrong with it.

    Who owns it is not asked, to save a call: it gives one word of harmless characters, or nothing.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            data = os.read(fd, _VERSION_LIMIT_BYTES + 1)
        finally:
            os.close(fd)
    except FileNotFoundError:
        return "", ""
    except OSError as error:
        return "", f"jobs get no NCCL_VERSION: {path} cannot be read: {error.strerror}; put a plain file there"
    version = data.decode("ascii", "replace").strip()
    if len(data) > _VERSION_LIMIT_BYTES or not _is_version(version):
        found = f"{path} begins with {version[:40]!r}"
        return "", f"jobs get no NCCL_VERSION: {found}; write one word, as v2.28.7-1"
    return version, ""


def _is_version(text: str) -> bool:
    return bool(text) and _VERSION_CHARACTERS.issuperset(text)


def _is_below(path: str, folder: str) -> bool:
    return os.path.normpath(path).startswith(f"{folder}/")
