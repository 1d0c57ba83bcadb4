"""A look at ``/fsx/nccl``: taken in a child by ``SharedFs.look``, so all that goes in and out is what json can carry.

Where nothing has changed, it costs four file-system calls: the folder and the link ``current``; then, with a version of
ours, the mark of its use and its manifest, and with any other installation, the setup script and the version file.
"""

from __future__ import annotations

import os
import stat

from ..errors import SlurmFsxError, UntrustedFile
from ..files import check_owner, check_trusted, read_trusted, remove
from .manifest import CURRENT, FILE, USES, VERSIONS, Manifest, is_version_id, version_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SETUP_SCRIPT = "setup-nccl-env.sh"
VERSION_FILE = ".nccl_version"

_VERSION_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._+-")
_VERSION_LIMIT_BYTES = 128


def survey(folder: str, known_key: str, limit_s: float, version: str = "", marker: str = "") -> dict[str, Any] | None:
    """See what stands in a folder.

    Args:
        folder: ``/fsx/nccl``.
        known_key: The key of the last answer, if that still counts; else empty.
        limit_s: How long a setup script may take.
        version: The version of ours to look at; without it, the one that ``current`` names.
        marker: What marks that version as used, by a job (`Job.marker`); nothing without it.

    Returns:
        None where there is no installation, or no such version. Else ``key``, which changes whenever the answer may,
        and, unless it is the known one, ``installation`` with the fields of an `Installation`, and ``is_final``: False
        if a later look may find more although nothing here has changed. ``note`` may be there besides, about this very
        look.

    Raises:
        OSError: the folder cannot be read.
    """
    try:
        folder_status = os.lstat(folder)
    except FileNotFoundError:
        return None
    try:
        if stat.S_ISLNK(folder_status.st_mode):
            raise UntrustedFile(f"{folder} is a symbolic link", hint="put the folder itself there, or mount it")
        if not stat.S_ISDIR(folder_status.st_mode):
            raise UntrustedFile(f"{folder} is no folder", hint="put the installation there")
        check_owner(folder, folder_status)
        if version:
            return _survey_version(folder, version, known_key, marker)
        current = _read_link(f"{folder}/{CURRENT}")
        if not current:
            return _survey_script(folder, known_key, limit_s)
        current_id = current.removeprefix(f"{folder}/").removeprefix(f"{VERSIONS}/").rstrip("/")
        if not is_version_id(current_id):
            hint = "choose a version: slurm-fsx nccl use ID"
            raise UntrustedFile(f"{folder}/{CURRENT} leads to {current}, which is no version", hint=hint)
        answer = _survey_version(folder, current_id, known_key, marker)
        if answer is None:
            hint = "choose another one: slurm-fsx nccl use ID"
            raise UntrustedFile(f"{folder}/{CURRENT} leads to {current}, which is not installed", hint=hint)
        return answer
    except SlurmFsxError as error:
        return _untrusted(known_key, folder, str(error))


def _survey_version(folder: str, version: str, known_key: str, marker: str) -> dict[str, Any] | None:
    """Look at a version of ours, and mark it as used; None where it is not installed.

    The mark comes first. Whoever removes a version takes it out of reach and then looks at the marks: so either the
    mark is seen there, or it is seen here that the version is gone.

    Raises:
        SlurmFsxError: somebody else than root could have written it, or its manifest is damaged.
    """
    path = version_folder(folder, version)
    is_marked, note = _mark(folder, version, marker)
    try:
        status = os.lstat(f"{path}/{FILE}")
    except (FileNotFoundError, NotADirectoryError):
        if marker and is_marked:
            remove(f"{folder}/{USES}/{version}/{marker}")
        return None
    check_trusted(f"{path}/{FILE}", status)
    if not is_marked:
        _make_folders(folder, version)
        note = _mark(folder, version, marker)[1]
    answer: dict[str, Any] = {"key": f"{path}:{_identity(status)}"}
    if answer["key"] != known_key:
        answer.update(_examine_version(folder, version))
    if note:
        answer["note"] = note
    return answer


def _mark(folder: str, version: str, marker: str) -> tuple[bool, str]:
    """Mark a version as used by a job: an empty file; give False where its folder is missing, and what went wrong.

    The folders are root's, in one that was looked at: nobody else can have put a link there.
    """
    if not marker:
        return True, ""
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        os.close(os.open(f"{folder}/{USES}/{version}/{marker}", flags, 0o644))
    except FileNotFoundError:
        return False, f"{folder}/{USES}/{version} cannot be made: jobs are not marked as users of this version"
    except OSError as error:
        reason = f"jobs are not marked in {folder}/{USES}/{version} ({error.strerror})"
        return True, f"{reason}: do not remove the version while they run"
    return True, ""


def _make_folders(folder: str, version: str) -> None:
    for path in (f"{folder}/{USES}", f"{folder}/{USES}/{version}"):
        try:
            os.mkdir(path, 0o755)
        except OSError:
            pass  # another node was quicker, or it cannot be: the next mark tells


def _examine_version(folder: str, version: str) -> dict[str, Any]:
    from .ofi_plugin import INSTALLER_FOLDERS, find_tuner

    path = version_folder(folder, version)
    library = f"{path}/lib"
    for part in (f"{folder}/{VERSIONS}", path, library):
        try:
            check_owner(part, os.lstat(part))
        except FileNotFoundError as error:
            raise UntrustedFile(f"{part} is not there", hint="install that version again") from error
    manifest = Manifest.parse(read_trusted(f"{path}/{FILE}"), f"{path}/{FILE}")
    if manifest.id != version:
        raise UntrustedFile(f"{path}/{FILE} is the manifest of {manifest.id}", hint="install that version again")
    plugin = os.path.normpath(os.path.join(path, manifest.ofi_folder)) if manifest.ofi_folder else library
    own = [library]
    lists = {}
    if _is_below(plugin, path):
        own = list(dict.fromkeys([library, plugin]))
    else:
        lists["LD_LIBRARY_PATH"] = [plugin]
    return {
        "installation": {
            "folder": folder,
            "id": version,
            "library_folders": own,
            "version": manifest.nccl,
            "nccl": manifest.nccl,
            "ofi": manifest.ofi,
            "libfabric": manifest.libfabric,
            "lists": lists,
            "tuner": find_tuner(dict.fromkeys([*own, plugin, *INSTALLER_FOLDERS])),
        },
        "is_final": True,
    }


def _read_link(path: str) -> str:
    """Give where a symbolic link leads; empty where there is none."""
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise UntrustedFile(f"{path} is no link ({error.strerror})", hint="remove it") from error


def _survey_script(folder: str, known_key: str, limit_s: float) -> dict[str, Any] | None:
    """Look at an installation of another maker."""
    try:
        script_status = os.lstat(f"{folder}/{SETUP_SCRIPT}")
    except FileNotFoundError:
        return None
    check_trusted(f"{folder}/{SETUP_SCRIPT}", script_status)
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
