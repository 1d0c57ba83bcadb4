"""Checks of what containers need of the kernel: FUSE, overlay, user namespaces. Each is tried, where nobody sees it."""

from __future__ import annotations

import ctypes
import os
import stat
import tempfile
from typing import TYPE_CHECKING, Any

from ...programs import find_program
from .basics import installer
from .findings import COMPUTE, PROBLEM, WARNING, Check, Finding, Probe, Trouble

if TYPE_CHECKING:
    from .findings import Context, Facts

_NEWNS, _NEWUSER = 0x00020000, 0x10000000
_REC, _PRIVATE = 0x4000, 0x40000
_NOBODY = 65534
_SYSCTLS = (
    ("user.max_user_namespaces", "0", "15000"),
    ("kernel.unprivileged_userns_clone", "0", "1"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
)
"""What forbids user namespaces: the setting, the value that does, and one that does not."""

NO_FUSE = Trouble(
    WARNING,
    "Images cannot be mounted by FUSE: {reason}.",
    "Named containers are unpacked before they start instead, which takes minutes for a large image.",
    "modprobe fuse",
    "https://docs.kernel.org/filesystems/fuse.html",
    is_safe=True,
)
NO_SQUASHFUSE = NO_FUSE._replace(command="{install} squashfuse fuse3", is_safe=False)
CLOSED_FUSE = NO_FUSE._replace(
    text="{path} is closed to users (mode {mode}).",
    why="enroot and Apptainer mount images as the user: containers that are not named start slowly, or not at all.",
    command="chmod 666 {path}",
)
NO_OVERLAY = Trouble(
    WARNING,
    "The kernel does not mount an overlay: {reason}.",
    "Named containers are unpacked before they start instead, which takes minutes for a large image.",
    "modprobe overlay",
    "https://docs.kernel.org/filesystems/overlayfs.html",
    is_safe=True,
)
NO_USER_NAMESPACES = Trouble(
    PROBLEM,
    "Users cannot make user namespaces: {reason}.",
    "enroot and bubblewrap start no container without them.",
    "sysctl -w {setting}",
    "https://github.com/NVIDIA/enroot/blob/master/doc/requirements.md",
)
NO_USER_NAMESPACES_AT_ALL = NO_USER_NAMESPACES._replace(command="enroot-check_$(uname -m).run --verify")


def _gather_fuse(context: Context, facts: Facts) -> Any:
    path = f"{context.dev}/fuse"
    programs = [name for name in ("squashfuse", "fusermount3") if find_program(name)]
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return {"path": path, "mode": None, "programs": programs, "install": installer()}
    return {"path": path, "mode": stat.S_IMODE(status.st_mode), "programs": programs, "install": installer()}


def _gather_overlay(context: Context, facts: Facts) -> Any:
    """Try to mount an overlay: an empty text where it works. As an ordinary user, see whether the kernel has it."""
    if os.geteuid() != 0:
        with open(f"{context.proc}/filesystems") as file:
            if any(line.split()[-1] == "overlay" for line in file):
                return ""
        raise PermissionError(1, "not as this user", "mount")
    libc = ctypes.CDLL(None, use_errno=True)
    with tempfile.TemporaryDirectory(prefix="slurm-fsx-doctor-") as folder:
        # A namespace of its own: it ends with this process, whatever becomes of the mounts.
        _call(libc.unshare(_NEWNS))
        _call(libc.mount(b"none", b"/", None, _REC | _PRIVATE, None))
        _call(libc.mount(b"tmpfs", folder.encode(), b"tmpfs", 0, None))
        for name in ("lower", "upper", "work", "root"):
            os.mkdir(f"{folder}/{name}")
        layers = f"lowerdir={folder}/lower,upperdir={folder}/upper,workdir={folder}/work".encode()
        done = libc.mount(b"overlay", f"{folder}/root".encode(), b"overlay", 0, layers)
        reason = "" if done == 0 else os.strerror(ctypes.get_errno())
        for name in ("root", ""):
            libc.umount2(f"{folder}/{name}".rstrip("/").encode(), 2)
    return reason


def _gather_user_namespaces(context: Context, facts: Facts) -> Any:
    """Try to make a user namespace as an ordinary user; an empty text where it works."""
    settings = []
    for name, forbidding, _ in _SYSCTLS:
        try:
            with open(f"{context.proc}/sys/{name.replace('.', '/')}") as file:
                if file.read().strip() == forbidding:
                    settings.append(name)
        except FileNotFoundError:
            continue
    if os.geteuid() == 0:
        try:
            os.setgroups([])
            os.setgid(_NOBODY)
            os.setuid(_NOBODY)
        except OSError:
            pass  # in a container whose root is somebody else outside, and may be tried as it is
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.unshare(_NEWUSER)
    return {"reason": "" if done == 0 else os.strerror(ctypes.get_errno()), "settings": settings}


def _call(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "mount")


def _judge_fuse(context: Context, facts: Facts) -> list[Finding]:
    seen = facts["fuse"]
    if context.config["containers.prepare"] != "mount":
        return []
    found = []
    if seen["mode"] is None:
        found.append(NO_FUSE.found(reason=f"there is no {seen['path']}"))
    elif seen["mode"] & 0o006 != 0o006:
        found.append(CLOSED_FUSE.found(path=seen["path"], mode=f"{seen['mode']:04o}"))
    if "squashfuse" not in seen["programs"]:
        found.append(NO_SQUASHFUSE.found(reason="squashfuse is not installed", install=seen["install"]))
    return found


def _judge_overlay(context: Context, facts: Facts) -> list[Finding]:
    reason = facts["overlay"]
    return [NO_OVERLAY.found(reason=reason)] if reason and context.config["containers.prepare"] == "mount" else []


def _judge_user_namespaces(context: Context, facts: Facts) -> list[Finding]:
    seen = facts["user-namespaces"]
    if not seen["reason"]:
        return []
    usable = {name: f"{name}={value}" for name, _, value in _SYSCTLS}
    if seen["settings"]:
        name = seen["settings"][0]
        return [NO_USER_NAMESPACES.found(reason=f"{name} forbids it", setting=usable[name])]
    return [NO_USER_NAMESPACES_AT_ALL.found(reason=seen["reason"])]


PROBES = (
    Probe("fuse", "/dev/fuse", _gather_fuse),
    Probe("overlay", "a trial mount", _gather_overlay),
    Probe("user-namespaces", "a trial namespace", _gather_user_namespaces),
)
CHECKS = (
    Check(
        "fuse",
        "images can be mounted by FUSE",
        ("fuse",),
        _judge_fuse,
        (NO_FUSE, NO_SQUASHFUSE, CLOSED_FUSE),
        COMPUTE,
    ),
    Check("overlay", "the kernel mounts overlays", ("overlay",), _judge_overlay, (NO_OVERLAY,), COMPUTE),
    Check(
        "user-namespaces",
        "users can make user namespaces",
        ("user-namespaces",),
        _judge_user_namespaces,
        (NO_USER_NAMESPACES, NO_USER_NAMESPACES_AT_ALL),
        COMPUTE,
    ),
)
