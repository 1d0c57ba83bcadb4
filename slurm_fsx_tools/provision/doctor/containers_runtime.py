"""Checks of Pyxis and enroot: versions with known faults, and folders that must be on this node's own disk."""

from __future__ import annotations

import glob
import os
import re
import stat
import subprocess
from typing import TYPE_CHECKING, Any

from ...programs import find_program
from ..mounts import mount_of
from .basics import mounts, plugstack
from .findings import COMPUTE, NOTE, PROBLEM, WARNING, Check, Finding, Probe, Trouble

if TYPE_CHECKING:
    from .findings import Context, Facts

_ENROOT_CONF = "https://github.com/NVIDIA/enroot/blob/master/doc/configuration.md"
_PATHS = ("RUNTIME", "DATA", "CACHE", "TEMP")
_LOCAL_PATHS = ("RUNTIME", "DATA")
_LARGE_PATHS = ("DATA", "CACHE", "TEMP")
_ASK_S = 2.5
_LEAST_BYTES = 20 << 30
"""One unpacked NGC image. Source: NVIDIA/pyxis#24, images of 15 to 20 GB."""

_TIGHT_BYTES = 2 << 30
"""For what containers write that are mounted. The figure is ours."""

_IMPORTER_FROM = (0, 21)
_GIB = 1 << 30

NO_ENROOT = Trouble(
    PROBLEM,
    "Pyxis is loaded, and enroot is not installed.",
    "No container starts. Its packages, for apt and dnf, are attached to its releases.",
    "",
    "https://github.com/NVIDIA/enroot/blob/master/doc/installation.md",
)
ENROOT_FAILS = Trouble(
    PROBLEM,
    "enroot does not run: {reason}.",
    "No container starts, and Pyxis's epilog, which asks enroot, drains nodes.",
    "enroot version",
    "https://github.com/NVIDIA/pyxis/issues/123",
)
ENROOT_HANGS = ENROOT_FAILS._replace(
    text="enroot gave no answer within {limit:g} s.",
    why="Containers hang as they start, and Pyxis's epilog with them, until Slurm drains the node. Its configuration "
    "may name a folder on a file system that hangs.",
)
OLD_ENROOT = Trouble(
    NOTE,
    "enroot is {version}; 4.1 or newer starts containers straight from an image.",
    "An older one unpacks each image that is not named by --container-name, which takes minutes for a large one.",
    "",
    "https://github.com/NVIDIA/pyxis/issues/24",
)
SHARED_PATH = Trouble(
    PROBLEM,
    "ENROOT_{name}_PATH is {path}, which is on the shared file system ({kind}).",
    "Starts of many containers at once end in lock time-outs there, and nodes see each other's containers. Name a "
    "folder on this node's own disk in {conf}.",
    "",
    "https://github.com/NVIDIA/enroot/issues/154",
)
NO_PATH = Trouble(
    PROBLEM,
    "{folder}, for ENROOT_{name}_PATH, is not there.",
    "Users cannot make their own folder in it, so no container starts.",
    "install -d -m 1777 {folder}",
    _ENROOT_CONF,
    is_safe=True,
)
CLOSED_PATH = Trouble(
    PROBLEM,
    "{folder}, for ENROOT_{name}_PATH, is closed to users (mode {mode}).",
    "Users cannot make their own folder in it: containers fail with 'Permission denied', and Pyxis's epilog may "
    "drain the node.",
    "chmod 1777 {folder}",
    "https://github.com/NVIDIA/pyxis/issues/123",
)
SMALL_PATH = Trouble(
    WARNING,
    "{path}, for ENROOT_{name}_PATH, has {free} left.",
    "Unpacking a large image takes 20 GiB and more, and then fails with 'No space left on device'.",
    "slurm-fsx containers cleanup",
    "https://github.com/NVIDIA/pyxis/issues/53",
    is_safe=True,
)
LITTLE_ROOM = SMALL_PATH._replace(
    severity=NOTE,
    why="Named containers are mounted, and need no more than what they write. One that has to be unpacked takes "
    "20 GiB and more.",
    command="",
    is_safe=False,
)
OLD_PYXIS = Trouble(
    PROBLEM,
    "Pyxis is {version}, and its line in {conf} has importer=, which it knows from 0.21 on.",
    "It refuses the line, and no container starts. Take importer= away, or install a newer Pyxis.",
    "",
    "https://github.com/NVIDIA/pyxis/tree/master/importers",
)
NO_IMPORTER = Trouble(
    NOTE,
    "Pyxis is {version}, and its line in {conf} has no importer=.",
    "With it, --container-image knows short names, and other images are pulled once for all nodes: add "
    "importer={home}/libexec/slurm-fsx-importer.",
    "",
    "https://github.com/NVIDIA/pyxis/tree/master/importers",
)


def parse_enroot_conf(text: str) -> dict[str, str]:
    """Read enroot.conf: a name, blanks, a value, which the shell expands later. Source: enroot's configuration page."""
    found = {}
    for line in text.splitlines():
        match = re.match(r"\s*(ENROOT_\w+)\s+(\S.*?)\s*$", line)
        if match:
            found[match[1]] = match[2].strip("\"'")
    return found


def fixed_part(path: str) -> str:
    """Give the part of a path that is the same for all users: ``/var/lib/enroot`` of ``/var/lib/enroot/$(id -u)``.

    Empty where there is none, as in ``${HOME}/.cache``.
    """
    head = re.split(r"[$`~]", path, maxsplit=1)[0]
    if not head:
        return ""
    return path.rstrip("/") if head == path else head.rpartition("/")[0] or "/"


def _gather_enroot(context: Context, facts: Facts) -> Any:
    program = find_program("enroot")
    if program is None:
        return {"program": "", "version": "", "reason": ""}
    done = subprocess.run([program, "version"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    said = (done.stdout or done.stderr).decode(errors="replace").strip().splitlines()
    reason = "" if done.returncode == 0 else (said[-1] if said else f"it ended with {done.returncode}")
    return {"program": program, "version": said[-1] if said and not reason else "", "reason": reason}


def _gather_conf(context: Context, facts: Facts) -> Any:
    files = [f"{etc}/enroot.conf" for etc in (f"{context.etc}/enroot", "/usr/local/etc/enroot")]
    files += sorted(glob.glob(f"{context.etc}/enroot/enroot.conf.d/*.conf"))
    found: dict[str, str] = {}
    conf = files[0]
    for path in files:
        try:
            with open(path, errors="replace") as file:
                found.update(parse_enroot_conf(file.read()))
            conf = path
        except FileNotFoundError:
            continue
    return {"conf": conf, "paths": {name: found.get(f"ENROOT_{name}_PATH", "") for name in _PATHS}}


def _gather_folders(context: Context, facts: Facts) -> Any:
    """Look at the folders, but for those on a file system that may hang."""
    known = mounts(facts)
    found = {}
    for name, path in facts["enroot-conf"]["paths"].items():
        folder = fixed_part(path) if path else ""
        mount = mount_of(folder, known)
        if not folder.startswith("/") or mount is None or mount.is_shared:
            continue
        try:
            status = os.stat(folder)
        except FileNotFoundError:
            found[name] = {"folder": folder, "mode": None, "free_bytes": 0}
            continue
        room = os.statvfs(folder)
        found[name] = {
            "folder": folder,
            "mode": stat.S_IMODE(status.st_mode),
            "free_bytes": room.f_bavail * room.f_frsize,
        }
    return found


def _judge_enroot(context: Context, facts: Facts) -> list[Finding]:
    if plugstack(facts).pyxis is None:
        return []
    missing = facts.missing("enroot")
    if missing is not None and missing.hung:
        return [ENROOT_HANGS.found(limit=_ASK_S)]
    seen = facts["enroot"]
    if not seen["program"]:
        return [NO_ENROOT.found()]
    if seen["reason"]:
        return [ENROOT_FAILS.found(reason=seen["reason"].rstrip("."))]
    return [OLD_ENROOT.found(version=seen["version"])] if _numbers(seen["version"]) < (4, 1) else []


def _judge_paths(context: Context, facts: Facts) -> list[Finding]:
    if plugstack(facts).pyxis is None:
        return []
    seen, folders, known = facts["enroot-conf"], facts["enroot-folders"], mounts(facts)
    found = []
    told: set[int] = set()
    for name, path in seen["paths"].items():
        mount = mount_of(fixed_part(path), known) if path.startswith("/") else None
        is_below_fsx = f"{path}/".startswith(f"{context.config['fsx.root'].rstrip('/')}/")
        if name in _LOCAL_PATHS and mount is not None and (mount.is_shared or is_below_fsx):
            found.append(SHARED_PATH.found(name=name, path=path, kind=mount.kind, conf=seen["conf"]))
            continue
        if name not in folders or is_below_fsx:
            continue
        folder, mode, free_bytes = (folders[name][key] for key in ("folder", "mode", "free_bytes"))
        # A folder for each user below it, which users make themselves; without such, it is root's to open.
        is_for_each = folder != path.rstrip("/")
        if mode is None:
            found.append(NO_PATH.found(folder=folder, name=name))
        elif is_for_each and not mode & stat.S_IWOTH:
            found.append(CLOSED_PATH.found(folder=folder, name=name, mode=f"{mode:04o}"))
        elif name in _LARGE_PATHS and free_bytes < _LEAST_BYTES and free_bytes not in told:
            told.add(free_bytes)  # several folders of one file system are one trouble
            is_tight = context.config["containers.prepare"] != "mount" or free_bytes < _TIGHT_BYTES
            trouble = SMALL_PATH if is_tight else LITTLE_ROOM
            found.append(trouble.found(path=folder, name=name, free=f"{free_bytes / _GIB:.1f} GiB"))
    return found


def _judge_pyxis(context: Context, facts: Facts) -> list[Finding]:
    line = plugstack(facts).pyxis
    version = facts["plugins"][line.plugin]["pyxis"] if line is not None else ""
    if line is None or not version:
        return []
    knows, has = _numbers(version) >= _IMPORTER_FROM, bool(line.option("importer"))
    if has and not knows:
        return [OLD_PYXIS.found(version=version, conf=line.file)]
    return [NO_IMPORTER.found(version=version, conf=line.file, home=context.home)] if knows and not has else []


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"[0-9]+", version)[:2])


PROBES = (
    Probe("enroot", "enroot", _gather_enroot, limit_s=_ASK_S),
    Probe("enroot-conf", "enroot's configuration", _gather_conf),
    Probe("enroot-folders", "enroot's folders", _gather_folders, after=("mounts", "enroot-conf")),
)
CHECKS = (
    Check(
        "enroot",
        "enroot runs",
        ("plugstack", "enroot"),
        _judge_enroot,
        (NO_ENROOT, ENROOT_FAILS, ENROOT_HANGS, OLD_ENROOT),
        COMPUTE,
    ),
    Check(
        "enroot-paths",
        "enroot's folders are on this node's own disk, open to users, with room",
        ("plugstack", "enroot-conf", "enroot-folders", "mounts"),
        _judge_paths,
        (SHARED_PATH, NO_PATH, CLOSED_PATH, SMALL_PATH, LITTLE_ROOM),
        COMPUTE,
    ),
    Check(
        "pyxis",
        "Pyxis knows the words on its line",
        ("plugstack", "plugins"),
        _judge_pyxis,
        (OLD_PYXIS, NO_IMPORTER),
    ),
)
