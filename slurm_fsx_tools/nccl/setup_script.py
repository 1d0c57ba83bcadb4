"""A setup script made by someone else: sourced in a shell of its own, to learn what it would export.

The script is root's, and no other could have written it; what is guarded against here is accident. A script that hangs,
prints without end or leaves programs behind must not cost a job more than a moment, and what it says about the process
that sourced it must not end up in somebody's job.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from ..errors import SlurmFsxError
from ..jobenv import is_variable_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHELLS = ("/bin/bash", "/bin/sh")
"""In order of preference: people write bash and mean sh."""

NOBODY = 65534
"""The kernel's own id for nobody. It is not looked up by name, since that may ask a directory server."""

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""All that is in the environment when the script starts."""

OUTPUT_LIMIT_BYTES = 1 << 16
"""Of all exported variables. A single one above 128 KiB would keep every task from starting (Linux, execve(2))."""

_MEMORY_LIMIT_BYTES = 4 << 30
_FILE_LIMIT_BYTES = 1 << 20

_RESULT = 9
"""The descriptor that the environment comes back on; the script's own output goes nowhere, so it cannot be in the way.
One digit, because dash takes no more."""

_MARK = "SLURM_FSX_SETUP"
"""Is in the answer only if the script came to its end, and did not exit."""

_UNREADABLE = 126

# The script sees no arguments, and a $0 that is not its own name: so it knows that it is sourced.
_COMMAND = f"""
{_MARK}=$1
shift
[ -r "${_MARK}" ] || exit {_UNREADABLE}
. "${_MARK}"
exec /usr/bin/env -0 {_MARK}=1 >&{_RESULT}
"""

_SET_BY_SHELLS = ("PWD", "OLDPWD", "SHLVL", "_", _MARK)

_LISTS = (
    "PATH", "LD_LIBRARY_PATH", "LIBRARY_PATH", "LD_RUN_PATH", "CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH",
    "PKG_CONFIG_PATH", "CMAKE_PREFIX_PATH", "PYTHONPATH", "MODULEPATH",
)  # fmt: skip
"""Lists even where they have one entry; CUDA_PATH and its like are none."""

_REFUSED = (
    (
        ("HOME", "USER", "LOGNAME", "SHELL", "MAIL", "TERM", "HOSTNAME"),
        "would tell of the process that sourced the script, not of a job's user",
    ),
    (
        ("SLURM*", "_SLURM*", "SPANK_*", "SBATCH_*", "SALLOC_*", "SRUN_*", "PYXIS_*", "ENROOT_*"),
        "is for Slurm, Pyxis and the user to set, job by job",
    ),
    (
        ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"),
        "is Slurm's word on which GPUs a job has",
    ),
    (
        ("LD_PRELOAD", "LD_AUDIT", "LD_DEBUG*", "LD_PROFILE*", "LD_BIND_*"),
        "would act on every program of every job, and keep all of them from starting in an image that it does not fit; "
        "let a site plugin set it, on the host alone",
    ),
    (
        ("BASH_*", "ENV", "SHELLOPTS", "BASHOPTS", "PROMPT_COMMAND", "PS4", "IFS", "PYTHONSTARTUP", "PYTHONHOME"),
        "would change what shells and interpreters do in every job",
    ),
    (("MANPATH", "INFOPATH"), "would hide the system's own pages where the user has set none"),
)
"""What a script may export for whoever sources it, and what jobs do not get; ``*`` stands at the end of a prefix."""


class Exports(NamedTuple):
    """What a script adds to an environment."""

    variables: dict[str, str]
    lists: dict[str, list[str]]
    """The entries of search paths, beyond those that were there."""

    refused: dict[str, str]
    """The variables that jobs do not get, each with the reason."""


def source_script(path: str, limit_s: float, shells: Sequence[str] = SHELLS) -> dict[str, str]:
    """Source a script, as nobody if this process is root, and give the environment that it leaves.

    Takes as long as the script does, at most `limit_s`, and never blocks on a hung file system. Every process of its
    session is ended then; a daemon that made itself a session of its own stays.

    Args:
        path: The script.
        limit_s: How long it may take.
        shells: The first one that is there sources it.

    Raises:
        SlurmFsxError: the script did not come to its end, or exports more than OUTPUT_LIMIT_BYTES.
    """
    reader, writer = os.pipe()
    shell = os.fork()
    if shell == 0:
        _become_shell(path, writer, shells)
    os.close(writer)
    try:
        os.set_blocking(reader, False)
        data, end = _await(shell, reader, path, limit_s)
    finally:
        os.close(reader)
        _end(shell)
    environment = dict(_parse(entry) for entry in data.split(b"\0") if b"=" in entry)
    if _MARK not in environment:
        if end == f"status {_UNREADABLE}":
            raise SlurmFsxError(
                f"{path} cannot be read by everybody", hint=f"run: chmod a+r {path}, and chmod a+x on the folders above"
            )
        raise SlurmFsxError(
            f"{path} ended its shell with {end}", hint=f"see: env -i bash -xc '. {path}', as a user without rights"
        )
    return environment


def sort_exports(environment: Mapping[str, str]) -> Exports:
    """Tell what a script did to the environment: single variables, search paths, and what jobs must not get."""
    exports = Exports({}, {}, {})
    for name, value in sorted(environment.items()):
        if name in _SET_BY_SHELLS:
            continue
        reason = _refusal(name, value)
        if reason:
            exports.refused[name] = reason
        elif _is_list(name, value):
            entries = [entry for entry in value.split(":") if entry and entry not in SEARCH_PATH.split(":")]
            added = [entry for entry in dict.fromkeys(entries) if entry.startswith("/")]
            if added:
                exports.lists[name] = added
            if any(not entry.startswith("/") for entry in entries):
                exports.refused[name] = "has entries that would mean a folder below each job's own"
        else:
            exports.variables[name] = value
    return exports


def _refusal(name: str, value: str) -> str:
    for patterns, reason in _REFUSED:
        for pattern in patterns:
            if name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1])):
                return reason
    if not is_variable_name(name):
        return "is no name of a variable"
    if "\n" in value:
        return "has a line break in its value"
    return ""


def _is_list(name: str, value: str) -> bool:
    if name in _LISTS:
        return True
    entries = [entry for entry in value.split(":") if entry]
    return name.endswith("PATH") and ":" in value and all(entry.startswith("/") for entry in entries)


def _await(shell: int, reader: int, path: str, limit_s: float) -> tuple[bytes, str]:
    """Collect what the shell writes until it ends; give that, and how it ended."""
    deadline = time.monotonic() + limit_s
    data = bytearray()
    while True:
        # Asked before reading: all that an ended shell has written is in the pipe. Whether others still hold the pipe
        # does not matter then. It stays a zombie until its session is ended, so its id is nobody else's by then.
        ended = os.waitid(os.P_PID, shell, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        _read_available(reader, data)
        if len(data) > OUTPUT_LIMIT_BYTES:
            raise SlurmFsxError(
                f"{path} exports more than {OUTPUT_LIMIT_BYTES >> 10} KiB", hint="let it export what NCCL needs alone"
            )
        if ended is not None:
            how = "status" if ended.si_code == os.CLD_EXITED else "signal"
            return bytes(data), f"{how} {ended.si_status}"
        if time.monotonic() >= deadline:
            raise SlurmFsxError(
                f"{path} took longer than {limit_s:g} s", hint="let it set variables alone, or raise fsx.timeout"
            )
        time.sleep(0.002)


def _read_available(reader: int, data: bytearray) -> None:
    while len(data) <= OUTPUT_LIMIT_BYTES:
        try:
            chunk = os.read(reader, 1 << 16)
        except BlockingIOError:
            return
        if not chunk:
            return
        data += chunk


def _end(shell: int) -> None:
    """Kill what is left of the shell's session, and forget the shell."""
    for kill in (os.killpg, os.kill):
        try:
            kill(shell, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # it had no time to become a group, or nothing is left of it
    for _ in range(50):
        if os.waitpid(shell, os.WNOHANG)[0]:
            return
        time.sleep(0.002)
    # It hangs in the kernel: it dies when the file system answers, and init takes it.


def _become_shell(path: str, writer: int, shells: Sequence[str]) -> NoReturn:
    """Turn this process, a fresh child, into the shell that sources the script."""
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        os.dup2(writer, _RESULT)
        os.set_inheritable(_RESULT, True)
        os.chdir("/")
        os.umask(0o077)
        # Python ignores these two, and a program inherits what is ignored.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        _give_up_rights()
        shell = next(shell for shell in shells if os.path.exists(shell))
        arguments = [os.path.basename(shell), "-c", _COMMAND, "setup", path]
        os.execve(shell, arguments, {"PATH": SEARCH_PATH})  # noqa: S606  # this very process is to become it
    finally:
        os._exit(127)


def _give_up_rights() -> None:
    import resource

    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, _FILE_LIMIT_BYTES),
        (resource.RLIMIT_AS, _MEMORY_LIMIT_BYTES),
    ):
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))
    try:
        import ctypes

        pr_set_no_new_privs = 38  # linux/prctl.h; sudo and its like refuse from here on
        ctypes.CDLL(None).prctl(pr_set_no_new_privs, 1, 0, 0, 0)
    except (ImportError, OSError):
        pass  # a Python without libffi: nobody has few ways up as it is
    # Last: from here on, Python's own files may be out of reach.
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def _parse(entry: bytes) -> tuple[str, str]:
    name, _, value = entry.decode("utf-8", "surrogateescape").partition("=")
    return name, value
