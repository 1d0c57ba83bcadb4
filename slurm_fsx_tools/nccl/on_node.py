"""What a node needs of the shared NCCL besides jobs' own environment, put in place while it runs.

Only whole files of our own are put, each at one stroke; no process is touched, and the loader's cache never.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import SlurmFsxError
from ..files import WORLD_READABLE, check_owner, read_trusted, write_atomically
from .installation import current_installation, forget_doubtful
from .manifest import CURRENT, FILE, VERSIONS, Manifest, is_version_id
from .survey import SETUP_SCRIPT

if TYPE_CHECKING:
    from ..config.model import Config
    from ..shared_fs import SharedFs

PROFILE = "profile.d/nccl-shared.sh"
ENROOT = "enroot"
"""Both below the share folder and below /etc: the file, and a folder of fragments that go where enroot is."""

_OTHERS = "as another tool installed it"
"""Instead of a version: jobs get that, too."""

_OTHERS_MAY_ENTER = stat.S_IROTH | stat.S_IXOTH


class Applied(NamedTuple):
    """What was done on a node, and what it sees."""

    put: list[str]
    """Files that were not there, or not like that."""

    version: str
    """The version that jobs get here; empty where none is seen."""

    problems: list[str]
    """What keeps the node from being right, each with what to do."""

    @property
    def message(self) -> str:
        """One line for the admin."""
        if self.problems:
            return "; ".join(self.problems)
        done = f"put {', '.join(self.put)}" if self.put else "in place"
        return f"{done}; NCCL {self.version}"


_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-/")


def apply_here(config: Config, shared_fs: SharedFs, share: str, etc: str = "/etc") -> Applied:
    """Put in place what this node needs, and see what its jobs will get. Doing it again changes nothing.

    Args:
        config: The configuration.
        shared_fs: The shared file system, which may be away: the local part is done all the same.
        share: The folder of this software's installed files.
        etc: The system's configuration.
    """
    put: list[str] = []
    problems: list[str] = []
    for name in (PROFILE, *(_fragments(share) if os.path.isdir(f"{etc}/{ENROOT}") else [])):
        try:
            if _put(f"{share}/{name}", f"{etc}/{name}", config.below_fsx("nccl")):
                put.append(f"{etc}/{name}")
        except OSError as error:
            problems.append(f"{etc}/{name}: {error.strerror}")
        except SlurmFsxError as error:
            problems.append(str(error))
    version = ""
    try:
        seen = shared_fs.look(lambda: _look(config.below_fsx("nccl")))
        version = seen["version"]
        problems += seen["problems"]
        if not problems:
            # What this node remembers is renewed now, rather than by the next job's prolog.
            forget_doubtful(config)
            current_installation(config, shared_fs)
    except OSError as error:
        problems.append(f"{error.filename or config['fsx.root']}: {error.strerror}")
    except SlurmFsxError as error:
        problems.append(str(error))
    return Applied(put, version, problems)


def lacking(config: Config, share: str, etc: str = "/etc") -> list[str]:
    """Give the files that `apply_here` would put in place now.

    Raises:
        OSError: this software's own files are not there.
        SlurmFsxError: they cannot be believed, or the folder's name is none for a script.
    """
    found = []
    for name in (PROFILE, *(_fragments(share) if os.path.isdir(f"{etc}/{ENROOT}") else [])):
        data, mode = _content(f"{share}/{name}", f"{etc}/{name}", config.below_fsx("nccl"))
        try:
            if not _is_in_place(f"{etc}/{name}", data, mode):
                found.append(f"{etc}/{name}")
        except (OSError, SlurmFsxError):
            found.append(f"{etc}/{name}")
    return found


def _fragments(share: str) -> list[str]:
    """Give enroot's fragments, e.g. ``enroot/mounts.d/50-slurm-fsx-nccl.fstab``."""
    found = []
    for folder, _, files in os.walk(f"{share}/{ENROOT}"):
        found += [os.path.relpath(f"{folder}/{file}", share) for file in files]
    return sorted(found)


def _put(source: str, target: str, folder: str) -> bool:
    """Put a file in place, for an installation in that folder; say whether it was not there like that."""
    data, mode = _content(source, target, folder)
    try:
        if _is_in_place(target, data, mode):
            return False
    except FileNotFoundError:
        os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
    write_atomically(target, data, mode)
    return True


def _content(source: str, target: str, folder: str) -> tuple[bytes, int]:
    if not _PLAIN.issuperset(folder):
        raise SlurmFsxError(f"{folder} cannot stand in a shell script as it is", hint="mount it under a plain name")
    # enroot runs its hooks as programs.
    mode = 0o755 if "/hooks.d/" in target else WORLD_READABLE
    return read_trusted(source).replace(b"/fsx/nccl", folder.encode()), mode


def _is_in_place(target: str, data: bytes, mode: int) -> bool:
    status = os.lstat(target)
    is_ours = stat.S_ISREG(status.st_mode) and status.st_uid in (0, os.geteuid())
    return is_ours and stat.S_IMODE(status.st_mode) == mode and read_trusted(target) == data


def _look(folder: str) -> dict[str, Any]:
    """See in a child whether everybody can read the version that is current, and which one that is."""
    link = f"{folder}/{CURRENT}"
    try:
        target = os.readlink(link)
    except FileNotFoundError:
        if os.path.exists(f"{folder}/{SETUP_SCRIPT}") and not os.path.exists(f"{folder}/{VERSIONS}"):
            return _answer(_OTHERS)
        return _answer("", f"there is no {link}: run slurm-fsx nccl install, or slurm-fsx nccl use")
    except OSError:
        return _answer("", f"{link} is no symbolic link: move it away, and run slurm-fsx nccl use")
    version = os.path.basename(target)
    if not is_version_id(version):
        return _answer("", f"{link} leads to {target!r}, which is no version: run slurm-fsx nccl use")
    try:
        check_owner(folder, os.lstat(folder))
        status = os.stat(link)
        check_owner(link, status)
        manifest = Manifest.parse(read_trusted(f"{folder}/{target}/{FILE}"), f"{link}/{FILE}")
    except FileNotFoundError:
        return _answer(
            version, f"{link} leads to {target}, which is not there or has no {FILE}: run slurm-fsx nccl use"
        )
    if manifest.id != version:
        return _answer(version, f"{link}/{FILE} is that of {manifest.id}: install {version} again")
    for path in (folder, link, f"{link}/lib"):
        if os.path.exists(path) and os.stat(path).st_mode & _OTHERS_MAY_ENTER != _OTHERS_MAY_ENTER:
            return _answer(version, f"users cannot read {path}: run chmod o+rx {path}")
    return _answer(version)


def _answer(version: str, *problems: str) -> dict[str, Any]:
    return {"version": version, "problems": list(problems)}
