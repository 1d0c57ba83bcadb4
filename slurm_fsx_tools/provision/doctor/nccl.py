"""Checks of the shared NCCL: installed, believed by root, whole, and there for sessions and containers, too."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ...nccl.manifest import CURRENT, FILE
from ...nccl.on_node import lacking
from ...nccl.survey import survey
from ...nccl.verifying import AGAIN, FAILED, as_documents, check_files
from .findings import COMPUTE, NOTE, PROBLEM, WARNING, Check, Finding, Probe, Trouble

if TYPE_CHECKING:
    from .findings import Context, Facts

_LIMIT_S = 1.5
_FSTAB = ".fstab"
"""How files in enroot's mounts.d end."""

NOT_INSTALLED = Trouble(
    WARNING,
    "There is no NCCL in {folder}.",
    "Jobs use the NCCL of their image or of the system, without EFA unless that brings it.",
    "slurm-fsx nccl install",
)
DISABLED = Trouble(
    NOTE,
    "nccl.enabled is false in {config}.",
    "No job gets the NCCL environment, whatever is installed.",
    "slurm-fsx config show",
)
UNTRUSTED = Trouble(
    PROBLEM,
    "{note}.",
    "Root believes only what nobody else could have written: prologs leave the NCCL environment out.",
    "chown -R root {folder} && chmod -R go-w {folder}",
)
NOT_CURRENT = UNTRUSTED._replace(
    why="Prologs leave the NCCL environment out until current leads to a version that is there. These are.",
    command="slurm-fsx nccl list",
)
INCOMPLETE = Trouble(
    WARNING, "{note}.", "Jobs may lack a part of their NCCL environment.", "slurm-fsx nccl env --explain"
)
BROKEN = Trouble(
    PROBLEM,
    "NCCL {version}, {check}: {detail}.",
    "{reason}.",
    "slurm-fsx nccl verify --quick",
)
DAMAGED = BROKEN._replace(command="slurm-fsx nccl install --anew --nccl {tag}")
STRANGE_OWNER = BROKEN._replace(command=UNTRUSTED.command)
DOUBTFUL = BROKEN._replace(severity=WARNING)
NO_SESSION = Trouble(
    WARNING,
    "Sessions by SSH do not get the shared NCCL: {file} is not as it should be.",
    "Programs that users start by hand on this node use another NCCL than their jobs do.",
    "slurm-fsx nccl apply-here",
    is_safe=True,
)
NO_MOUNT = NO_SESSION._replace(
    text="Containers do not see the shared NCCL: nothing in {file} mounts {folder}.",
    why="enroot mounts into containers what is listed there; an image without an NCCL of its own then has none.",
)
NO_HOOK = NO_SESSION._replace(
    severity=NOTE,
    text="Containers that somebody starts by hand do not find the shared NCCL: {file} is not as it should be.",
    why="Those of jobs have it from the SPANK plugin; enroot start alone goes by this file.",
)


def _gather(context: Context, facts: Facts) -> Any:
    folder = context.config.below_fsx("nccl")
    version = os.path.basename(os.readlink(f"{folder}/{CURRENT}")) if os.path.islink(f"{folder}/{CURRENT}") else ""
    answer = survey(folder, "", _LIMIT_S)
    if answer is None:
        return {"is_there": False}
    installation = answer["installation"]
    return {
        "is_there": True,
        "is_trusted": installation.get("is_trusted", True),
        "notes": installation.get("notes", []),
        "version": version,
        "is_installed": not version or os.path.exists(f"{folder}/{CURRENT}/{FILE}"),
        "library_folders": installation.get("library_folders", []),
    }


def _gather_files(context: Context, facts: Facts) -> Any:
    seen = facts["nccl"]
    if not seen["is_there"] or not seen["is_trusted"] or not seen["version"]:
        return []
    return as_documents(check_files(context.config.below_fsx("nccl"), seen["version"], _LIMIT_S))


def _gather_session(context: Context, facts: Facts) -> Any:
    files = lacking(context.config, f"{context.home}/share/slurm-fsx", context.etc)
    is_mounted = _mounts_nccl(f"{context.etc}/enroot/mounts.d", context.config.below_fsx("nccl"))
    # A site may have a line of its own for it.
    return [path for path in files if not (is_mounted and path.endswith(_FSTAB))]


def _mounts_nccl(folder: str, target: str) -> bool:
    try:
        names = [name for name in os.listdir(folder) if name.endswith(_FSTAB)]
    except FileNotFoundError:
        return False
    for name in names:
        with open(f"{folder}/{name}", errors="replace") as file:
            lines = [line.partition("#")[0].split() for line in file]
        if any(len(words) > 1 and f"{target}/".startswith(f"{words[1].rstrip('/')}/") for words in lines):
            return True
    return False


def _judge_installation(context: Context, facts: Facts) -> list[Finding]:
    folder = context.config.below_fsx("nccl")
    if not context.config["nccl.enabled"]:
        return [DISABLED.found(config=context.config.path or "the configuration")]
    seen = facts["nccl"]
    if not seen["is_there"]:
        return [NOT_INSTALLED.found(folder=folder)]
    notes = [f"{note[:1].upper()}{note[1:]}".rstrip(".") for note in seen["notes"]]
    if not seen["is_trusted"]:
        trouble = UNTRUSTED if seen["is_installed"] else NOT_CURRENT
        return [trouble.found(folder=folder, note=note) for note in notes]
    return [INCOMPLETE.found(note=note) for note in notes]


def _judge_files(context: Context, facts: Facts) -> list[Finding]:
    found = []
    for each in facts["nccl-files"]:
        if each["state"] in (FAILED, "warning"):
            trouble = _trouble_with(each)
            why = each["why"] or "jobs that use it may fail"
            found.append(
                trouble.found(
                    version=facts["nccl"]["version"],
                    # A version's name begins with NCCL's; what is asked for is a tag.
                    tag=f"v{facts['nccl']['version'].partition('_')[0]}",
                    folder=context.config.below_fsx("nccl"),
                    check=each["check"],
                    detail=each["detail"].rstrip("."),
                    reason=f"{why[0].upper()}{why[1:]}; {each['hint']}"
                    if each["hint"]
                    else f"{why[0].upper()}{why[1:]}",
                )
            )
    return found


def _trouble_with(seen: dict[str, Any]) -> Trouble:
    if seen["state"] != FAILED:
        return DOUBTFUL
    if seen["check"] == "owner":
        return STRANGE_OWNER
    return DAMAGED if seen["hint"] == AGAIN else BROKEN


def _judge_session(context: Context, facts: Facts) -> list[Finding]:
    if not context.config["nccl.enabled"] or not facts["nccl"]["is_there"]:
        return []
    folder = context.config.below_fsx("nccl")
    found = []
    for path in facts["session"]:
        if path.endswith(_FSTAB):
            found.append(NO_MOUNT.found(file=os.path.dirname(path), folder=folder))
        else:
            found.append((NO_HOOK if "/hooks.d/" in path else NO_SESSION).found(file=path))
    return found


PROBES = (
    Probe("nccl", "{root}/nccl", _gather, after=("fsx",)),
    Probe("nccl-files", "{root}/nccl", _gather_files, limit_s=4.0, after=("nccl",)),
    Probe("session", "/etc", _gather_session),
)
CHECKS = (
    Check(
        "nccl-installed",
        "the shared NCCL is there, and root believes it",
        ("nccl",),
        _judge_installation,
        (NOT_INSTALLED, DISABLED, UNTRUSTED, NOT_CURRENT, INCOMPLETE),
        is_of_cluster=True,
    ),
    Check(
        "nccl-files",
        "the files of the current NCCL are what its manifest says, and load",
        ("nccl", "nccl-files"),
        _judge_files,
        (BROKEN, DAMAGED, STRANGE_OWNER, DOUBTFUL),
        is_of_cluster=True,
    ),
    Check(
        "nccl-reach",
        "sessions by SSH and containers get the shared NCCL",
        ("nccl", "session"),
        _judge_session,
        (NO_SESSION, NO_MOUNT, NO_HOOK),
        COMPUTE,
    ),
)
