"""Checks of what root reads and runs: the configuration, plugins, scripts, and this software itself."""

from __future__ import annotations

import grp
import os
import pwd
import re
import stat
from typing import TYPE_CHECKING, Any

from ...config.snapshot import load_snapshot
from ...errors import in_words
from ...plugins import load_plugins
from ..mounts import mount_of
from .basics import mounts, plugstack
from .findings import COMPUTE, PROBLEM, WARNING, Check, Finding, Probe, Trouble

if TYPE_CHECKING:
    from ...plugins import Failure
    from .findings import Context, Facts

_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_SYSTEM_GROUPS = 999
"""The last one. Source: Debian Policy 9.2.2, and SYS_GID_MAX in login.defs(5)."""


OPEN_FILE = Trouble(
    PROBLEM,
    "{path} can be written by others than root (mode {mode}).",
    "Root reads or runs it on every node and for every job: whoever writes there is root. Where root looks, it "
    "refuses it, and works without.",
    "chmod go-w {path}",
    is_safe=True,
)
STRANGE_OWNER = Trouble(
    PROBLEM,
    "{path} belongs to user {uid}, not to root.",
    "Root reads or runs it on every node and for every job: its owner is root. Where root looks, it refuses it, and "
    "works without.",
    "chown root {path}",
)
CONFIG_BROKEN = Trouble(
    PROBLEM,
    "{complaint}.",
    "Prologs go on with the last configuration that could be read, or with the defaults.",
    "slurm-fsx config check",
)
PLUGIN_BROKEN = CONFIG_BROKEN._replace(
    why="Prologs and commands go on without this plugin: what it decides is not decided.",
    command="slurm-fsx plugins list",
)
ON_SHARED_FS = Trouble(
    WARNING,
    "This software is installed in {home}, on {kind}.",
    "Every prolog of every node reads Python from there: a hung or slow file server then delays every job. Install "
    "it on each node's own disk: docs/install.md says how.",
)
NOT_INSTALLED = Trouble(
    PROBLEM,
    "{path} is not there.",
    "Prologs, steps and timers call it: without it, jobs start without anything of this software. Install it again: "
    "docs/install.md says how.",
)


def _gather(context: Context, facts: Facts) -> Any:
    """Look at every file that root believes, and at the folders above it."""
    config = context.config
    paths = [
        *(config.path, config["prolog.plugins_dir"], config["runtime_dir"], f"{config['runtime_dir']}/jobs"),
        *(f"{config['runtime_dir']}/{name}" for name in ("config.json", "plugin.conf", "nccl.json")),
        *(context.home, f"{context.home}/bin/python3", f"{context.home}/bin/slurm-fsx", config["containers.state_dir"]),
        os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
        *(facts["slurm"]["conf"], *plugstack(facts).files, *facts["scripts"]),
        *(seen["path"] for seen in facts["plugins"].values()),
    ]
    for folder in (config["prolog.plugins_dir"], f"{context.etc}/enroot/hooks.d", f"{context.etc}/enroot/mounts.d"):
        try:
            paths += [folder, *(f"{folder}/{name}" for name in sorted(os.listdir(folder)))]
        except (FileNotFoundError, NotADirectoryError):
            continue
    known = mounts(facts)
    user = re.search(r"\(([0-9]+)\)", facts["slurm"]["settings"].get("slurmuser", ""))
    slurm_uid = int(user[1]) if user else 0
    slurms = {facts["slurm"]["conf"], *plugstack(facts).files, *facts["scripts"]}
    # Whether a path is Slurm's alone: those may be its account's, which could do anything as root by them, as it is.
    wanted: dict[str, bool] = {}
    for path in paths:
        place = path
        while place.startswith("/") and place != "/":
            wanted[place] = path in slurms and wanted.get(place, True)
            place = os.path.dirname(place)
    found = []
    for path, is_slurms in wanted.items():
        mount = mount_of(path, known)
        if mount is not None and mount.is_shared and path != mount.point and mount.point == config["fsx.root"]:
            continue  # not without a time limit, and checked by fsx-folders
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        trusted = {0, slurm_uid} if is_slurms else {0}
        opened = status.st_mode & _OTHERS
        if stat.S_ISDIR(status.st_mode):
            # In a folder with the sticky bit nobody can replace what root owns.
            opened = 0 if status.st_mode & stat.S_ISVTX else opened
            # As Debian has it: /usr/local is open to its group staff, which nobody is in.
            if opened & stat.S_IWGRP and not _members(status.st_gid) - trusted:
                opened &= ~stat.S_IWGRP
        found.append([path, stat.S_IMODE(status.st_mode), opened, 0 if status.st_uid in trusted else status.st_uid])
    return found


def _members(gid: int) -> set[int]:
    """Give the users of a system's group; all that there could be, as user -1, of another one, which LDAP may know."""
    if gid > _SYSTEM_GROUPS:
        return {-1}
    found = {user.pw_uid for user in pwd.getpwall() if user.pw_gid == gid}
    try:
        names = grp.getgrgid(gid).gr_mem
    except KeyError:
        return found
    for name in names:
        try:
            found.add(pwd.getpwnam(name).pw_uid)
        except KeyError:
            continue
    return found


def _judge_trusted(context: Context, facts: Facts) -> list[Finding]:
    found = []
    by_path = {path: (mode, opened, uid) for path, mode, opened, uid in facts["trusted"]}
    for path, (mode, opened, uid) in by_path.items():
        if uid != 0:
            found.append(STRANGE_OWNER.found(path=path, uid=uid))
        elif opened:
            above_mode, _, above_uid = by_path.get(os.path.dirname(path), (0, 0, 0))
            is_closed = above_uid == 0 and not above_mode & _OTHERS
            found.append(OPEN_FILE.found(path=path, mode=f"{mode:04o}", is_safe=is_closed))
    return found


def _gather_site(context: Context, facts: Facts) -> Any:
    """Load the configuration and the site's plugins, as a prolog does; give what goes wrong with either."""
    found: dict[str, list[str]] = {"config": [], "plugins": []}

    def complain(part: str) -> Failure:
        return lambda what, error: found[part].append(f"{what}: {in_words(error)}")

    load_plugins(load_snapshot(context.config.path, on_failure=complain("config")), complain("plugins"))
    return found


def _gather_installation(context: Context, facts: Facts) -> Any:
    return [path for path in (f"{context.home}/bin/slurm-fsx",) if not os.access(path, os.X_OK)]


def _judge_installation(context: Context, facts: Facts) -> list[Finding]:
    found = [NOT_INSTALLED.found(path=path) for path in facts["installation"]]
    mount = mount_of(context.home, mounts(facts))
    root = context.config["fsx.root"].rstrip("/")
    if mount is not None and (mount.is_shared or f"{context.home}/".startswith(f"{root}/")):
        found.append(ON_SHARED_FS.found(home=context.home, kind=mount.kind))
    return found


def _judge_config(context: Context, facts: Facts) -> list[Finding]:
    troubles = {"config": CONFIG_BROKEN, "plugins": PLUGIN_BROKEN}
    return [
        trouble.found(complaint=f"{text[0].upper()}{text[1:]}".rstrip("."))
        for part, trouble in troubles.items()
        for text in facts["site"][part]
    ]


PROBES = (
    Probe("trusted", "what root reads", _gather, after=("mounts", "slurm", "plugstack", "plugins", "scripts")),
    Probe("site", "a site's plugin", _gather_site, limit_s=4.0),
    Probe("installation", "this software's folder", _gather_installation),
)
CHECKS = (
    Check(
        "config",
        "the configuration and the site's plugins can be used",
        ("site",),
        _judge_config,
        (CONFIG_BROKEN, PLUGIN_BROKEN),
    ),
    Check(
        "installation",
        "this software is installed whole, on this node's own disk",
        ("installation", "mounts"),
        _judge_installation,
        (NOT_INSTALLED, ON_SHARED_FS),
        COMPUTE,
    ),
    Check(
        "trusted-files",
        "nobody but root can write to what root reads and runs",
        ("trusted",),
        _judge_trusted,
        (OPEN_FILE, STRANGE_OWNER),
    ),
)
