"""Checks of this machine: its clock, its disks, what ended jobs and dead processes left behind."""

from __future__ import annotations

import ctypes
import os
import stat
import time
from typing import TYPE_CHECKING, Any

from ...containers.on_node.roots import CleanUp, running_jobs
from ...containers.store import Store
from ...errors import SlurmFsxError
from ...nccl.installs.preflight import LOCK
from ...nccl.manifest import STAGING
from ...process import is_running, kernel
from ...shared_lock import Candidate, generations
from ..mounts import mount_of
from ..node_exporter import UNIT_FOLDERS
from .basics import ask, installer, mounts
from .findings import COMPUTE, HEAD, NOTE, WARNING, Check, Finding, Probe, Trouble, Unseen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .findings import Context, Facts

_TIMEX_BYTES = 512
"""More than struct timex has. Source: adjtimex(2)."""

_UNSYNCHRONISED = 5
_CLOCK_UNITS = ("chrony", "chronyd", "ntpsec", "ntpd", "systemd-timesyncd")
_OLD_ENV_S = 600.0
"""An environment file without its job is written moments before Slurm knows of the job at most."""

_LEAST_SHARE, _LEAST_BYTES = 0.05, 1 << 30
_STALE_LOCK_S = 600.0
"""Without a sign of life; owners touch their locks every few seconds."""

_LOCKS_SHOWN = 3
_SHOWN = 5
_REMOVED_AT_ONCE = 50
"""Jobs whose files one command removes: it must stay a line that somebody may read."""

_GIB = 1 << 30

UNSYNCHRONISED = Trouble(
    WARNING,
    "The kernel says that its clock is not synchronised.",
    "munge refuses messages that are more than 5 minutes old or from the future: then nothing of Slurm works from "
    "here, and what nodes log cannot be compared.",
    "systemctl restart {unit}",
    "https://github.com/dun/munge/wiki/Man-3-munge",
)
NOBODY_SYNCHRONISES = UNSYNCHRONISED._replace(
    text="The kernel says that its clock is not synchronised, and nothing is installed that would.",
    command="{install} chrony",
)
LITTLE_ROOM = Trouble(
    WARNING,
    "{path} has {free} left.",
    "{use} then fail in ways that look like something else.",
    "slurm-fsx containers cleanup",
    is_safe=True,
)
LEFT_OVERS = Trouble(
    WARNING,
    "Left here by ended jobs ({number}): {things}.",
    "They take room, and mounts keep images from being removed.",
    "slurm-fsx containers cleanup",
    is_safe=True,
)
STALE_ENV = Trouble(
    WARNING,
    "{folder} still has files of ended jobs ({number}): {jobs}.",
    "Their epilogs did not run to the end. What these jobs have mounted counts as in use until the files go.",
    "find {files} -mmin +9 -delete",
    is_safe=True,
)
STALE_LOCK = Trouble(
    NOTE,
    "{path} is held by {owner}, who is gone.",
    "The next one who wants it takes it over, at once on the same node, else after half a minute: nothing need be "
    "done. What was being made under it is not there.",
    "slurm-fsx containers status",
)


def _gather_clock(context: Context, facts: Facts) -> Any:
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)  # modes 0: read only
    state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    units = (unit for unit in _CLOCK_UNITS if any(os.path.exists(f"{place}/{unit}.service") for place in UNIT_FOLDERS))
    return [state, next(units, ""), installer()]


def _gather_room(context: Context, facts: Facts) -> Any:
    known = mounts(facts)
    places = {
        context.config["runtime_dir"]: "Prologs",
        context.config["containers.state_dir"]: "Containers' writes",
        context.config["containers.scratch"]: "Imports",
        "/tmp": "Jobs",  # noqa: S108  # only looked at
        "/var/log": "Slurm and its logs",
    }
    found = []
    for path, use in places.items():
        place = path
        mount = mount_of(path, known)
        while not os.path.isdir(place) and place != "/":
            place = os.path.dirname(place)
        if mount is None or mount.is_shared:
            continue
        room = os.statvfs(place)
        found.append([path, use, room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize])
    return found


def _gather_left_overs(context: Context, facts: Facts) -> Any:
    told: list[str] = []
    CleanUp(context.config, told.append, True, context.now_s).run()
    return told


def _gather_env_files(context: Context, facts: Facts) -> Any:
    folder = f"{context.config['runtime_dir']}/jobs"
    old: dict[str, list[str]] = {}
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    for name in names:
        job, _, suffix = name.partition(".")
        if job.isdigit() and suffix in ("env", "log"):
            status = os.lstat(f"{folder}/{name}")
            if context.now_s - status.st_mtime > _OLD_ENV_S and stat.S_ISREG(status.st_mode):
                old.setdefault(job, []).append(f"{folder}/{name}")
    if not old:
        return []
    if facts["slurm"]["reason"]:
        raise Unseen("slurmctld gives no answer, so nobody knows which jobs have ended")
    # Of the whole cluster: a node may be known by another name.
    known = set(ask(["squeue", "--noheader", "--all", "--format=%A"]).split())
    steps = running_jobs("", context.proc)
    return [[job, files] for job, files in sorted(old.items()) if job not in known and job not in steps]


def _gather_locks(context: Context, facts: Facts) -> Any:
    store = Store(context.config.below_fsx("containers"))
    nccl = context.config.below_fsx("nccl", STAGING, LOCK)
    found = []
    for path in (*_locks_below(store.locks), nccl):
        try:
            with Candidate(path) as candidate:
                generation, lease = candidate.look()
        except (OSError, SlurmFsxError):
            continue
        if not lease:
            continue
        if lease["kernel"] and lease["kernel"] == kernel():
            is_dead = not is_running(lease["pid"], lease["started"])
        else:
            is_dead = time.time() - os.stat(f"{path}.{generation}").st_mtime > _STALE_LOCK_S
        if is_dead:
            found.append([path, f"process {lease['pid']} on {lease['host']}"])
    return found


def _locks_below(folder: str) -> Iterator[str]:
    """Give the locks of images: in folders of two letters, a name and a number for each generation."""
    try:
        groups = sorted(os.listdir(folder))
    except FileNotFoundError:
        return
    for group in groups:
        try:
            names = os.listdir(f"{folder}/{group}")
        except NotADirectoryError:
            continue
        for name in sorted({name.rpartition(".")[0] for name in names if name.rpartition(".")[2].isdigit()}):
            if generations(names, name):
                yield f"{folder}/{group}/{name}"


def _judge_clock(context: Context, facts: Facts) -> list[Finding]:
    state, unit, install = facts["clock"]
    if state != _UNSYNCHRONISED:
        return []
    return [UNSYNCHRONISED.found(unit=unit) if unit else NOBODY_SYNCHRONISES.found(install=install)]


def _judge_room(context: Context, facts: Facts) -> list[Finding]:
    found: dict[tuple[int, int], Finding] = {}
    for path, use, free_bytes, total_bytes in facts["room"]:
        # A share of a small file system, such as /run, a gibibyte of a large one.
        if free_bytes < min(_LEAST_SHARE * total_bytes, _LEAST_BYTES):
            free = f"{free_bytes / _GIB:.1f} GiB"
            found.setdefault((free_bytes, total_bytes), LITTLE_ROOM.found(path=path, use=use, free=free))
    return list(found.values())


def _judge_left_overs(context: Context, facts: Facts) -> list[Finding]:
    things = facts["left-overs"]
    more = [f"and {len(things) - _SHOWN} more"] if len(things) > _SHOWN else []
    return [LEFT_OVERS.found(number=len(things), things=[*things[:_SHOWN], *more])] if things else []


def _judge_env_files(context: Context, facts: Facts) -> list[Finding]:
    stale = facts["env-files"]
    if not stale:
        return []
    jobs = [job for job, _ in stale]
    shown = [*jobs[:_SHOWN], *([f"and {len(jobs) - _SHOWN} more"] if len(jobs) > _SHOWN else [])]
    files = [file for _, files in stale[:_REMOVED_AT_ONCE] for file in files]
    folder = f"{context.config['runtime_dir']}/jobs"
    return [STALE_ENV.found(folder=folder, number=len(jobs), jobs=shown, files=files)]


def _judge_locks(context: Context, facts: Facts) -> list[Finding]:
    return [STALE_LOCK.found(path=path, owner=owner) for path, owner in facts["locks"][:_LOCKS_SHOWN]]


PROBES = (
    Probe("clock", "the kernel's clock", _gather_clock),
    Probe("room", "this node's disks", _gather_room, after=("mounts",)),
    Probe("left-overs", "this node's containers", _gather_left_overs),
    Probe("env-files", "squeue", _gather_env_files, limit_s=4.0, after=("slurm",)),
    Probe("locks", "{root}", _gather_locks, after=("fsx",)),
)
CHECKS = (
    Check("clock", "the clock is synchronised", ("clock",), _judge_clock, (UNSYNCHRONISED, NOBODY_SYNCHRONISES)),
    Check("local-room", "this node's own disks have room", ("room",), _judge_room, (LITTLE_ROOM,)),
    Check(
        "left-overs", "nothing of ended containers is left", ("left-overs",), _judge_left_overs, (LEFT_OVERS,), COMPUTE
    ),
    Check(
        "job-files",
        "no files of ended jobs are left",
        ("env-files",),
        _judge_env_files,
        (STALE_ENV,),
        COMPUTE,
    ),
    Check("locks", "no lock is held by somebody who is gone", ("locks",), _judge_locks, (STALE_LOCK,), HEAD),
)
