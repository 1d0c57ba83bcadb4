"""What in an environment does harm to NCCL on EFA, and what is of no use in it."""

from __future__ import annotations

import os
import resource
import shlex
import stat
import subprocess
import tempfile
from typing import TYPE_CHECKING, NamedTuple

import psutil

from ..errors import SlurmFsxError
from ..job import job_id_of
from ..jobenv import apply_operations, is_variable_name, parse_operations
from .variables import BY_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .conditions import Facts

IMAGE_ENVIRONMENT = "etc/environment"
"""Where enroot leaves the variables of the image's makers, in the image."""

UNSQUASHFS_TIMEOUT_S = 60.0
_LIMIT_BYTES = 1 << 20
_MEMORY_LIMIT_BYTES = 4 << 30
_NOBODY = 65534


class NothingToRead(SlurmFsxError):
    """An environment that is not there, or not for this user to read."""


class Finding(NamedTuple):
    """A variable that does harm, or is of no use."""

    name: str
    value: str
    is_harmful: bool
    why: str
    source: str
    """Where that can be read."""

    where: str
    """Whose environment it was found in."""


def lint(environment: Mapping[str, str], facts: Facts, where: str) -> list[Finding]:
    """Say what is known against the variables of an environment; the harmful ones first."""
    findings = []
    for name, value in sorted(environment.items()):
        variable = BY_NAME.get(name)
        if variable is None:
            continue
        harm = variable.harm(value, facts)
        if harm is not None:
            findings.append(Finding(name, value, True, harm.why, harm.source, where))
        elif variable.advice and not any(
            need.when.holds(facts) and need.value.lower() == value.lower() for need in variable.needs
        ):
            findings.append(Finding(name, value, False, variable.advice, variable.source, where))
    return sorted(findings, key=lambda finding: not finding.is_harmful)


def lint_all(environments: Iterable[tuple[str, Mapping[str, str]]], facts: Facts) -> list[Finding]:
    """Lint several environments; what is the same in several is said once."""
    findings: dict[tuple[str, str], Finding] = {}
    for where, environment in environments:
        for finding in lint(environment, facts, where):
            findings.setdefault((finding.name, finding.value), finding)
    return sorted(findings.values(), key=lambda finding: not finding.is_harmful)


def read_job(env_path: str, job_id: str) -> list[tuple[str, dict[str, str]]]:
    """Give what a job on this node has: what its prolog wrote, and what its processes were started with.

    Args:
        env_path: The job's environment file.
        job_id: The job.

    Raises:
        NothingToRead: neither is there for this user to read.
    """
    found: list[tuple[str, dict[str, str]]] = []
    try:
        with open(env_path, "rb") as file:
            found.append((env_path, apply_operations(parse_operations(file.read(_LIMIT_BYTES)), {})))
    except OSError:
        pass
    for process in psutil.process_iter():
        try:
            environment = {name: value for name, value in process.environ().items() if is_variable_name(name)}
        except psutil.Error:
            continue  # it has ended, or belongs to somebody else
        if job_id_of(environment) == job_id:
            found.append((f"process {process.pid}", environment))
    if not found:
        raise NothingToRead(
            f"nothing is known of job {job_id} on this node",
            hint="run this on a node of the job, as its user or as root",
        )
    return found


def read_file(path: str) -> dict[str, str]:
    """Read an environment from a file: as ``env`` prints it, as a script exports it, or as /proc has it.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return parse_environment(file.read(_LIMIT_BYTES))


def read_image(path: str, program: str) -> dict[str, str]:
    """Read the environment that an image gives to its containers.

    Args:
        path: The image.
        program: unsquashfs.

    Raises:
        NothingToRead: it is no image that can be read.
        OSError: it is not there, or not for this user.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise NothingToRead(f"{path} is no image", hint="name one of: slurm-fsx containers list")
        code, text, complaint = _extract(program, fd, status)
    except FileNotFoundError as error:
        raise NothingToRead(f"{program} is not installed", hint="install squashfs-tools") from error
    except subprocess.TimeoutExpired as error:
        reason = f"{path} was not read within {UNSQUASHFS_TIMEOUT_S:g} s"
        raise NothingToRead(reason, hint="see whether its file server is up") from error
    finally:
        os.close(fd)
    # An image without such a file is one without such variables; releases differ in what they make of it.
    if code != 0 and IMAGE_ENVIRONMENT not in complaint:
        raise NothingToRead(f"{path} cannot be read: {complaint[:200]}", hint="see: slurm-fsx containers verify")
    return parse_environment(text)


def _extract(program: str, image: int, status: os.stat_result) -> tuple[int, bytes, str]:
    """Run unsquashfs on an opened image; give its exit code, the file, and what it says.

    The image may have been made to hurt its reader: so that is not root, and has little time and room.
    """
    user = _NOBODY if status.st_mode & 0o004 else status.st_uid
    become = {"user": user, "group": status.st_gid, "extra_groups": []} if os.geteuid() == 0 and user else {}
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as talk:
        done = subprocess.run(
            [program, "-cat", f"/proc/self/fd/{image}", IMAGE_ENVIRONMENT],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=talk,
            env={"PATH": os.defpath, "LC_ALL": "C"},
            pass_fds=(image,),
            preexec_fn=_limit,  # this process has no thread
            timeout=UNSQUASHFS_TIMEOUT_S,
            check=False,
            **become,  # type: ignore[call-overload]
        )
        output.seek(0)
        talk.seek(0)
        return done.returncode, output.read(_LIMIT_BYTES), talk.read(_LIMIT_BYTES).decode("utf-8", "replace").strip()


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT_BYTES, _MEMORY_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LIMIT_BYTES, _LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def parse_environment(data: bytes) -> dict[str, str]:
    """Read variables from lines (``NAME=value``, ``export NAME='value'``), or from NUL-separated entries."""
    if b"\0" in data:
        entries = [entry.decode("utf-8", "surrogateescape") for entry in data.split(b"\0")]
    else:
        entries = [_unquote(line) for line in data.decode("utf-8", "surrogateescape").splitlines()]
    pairs = (entry.partition("=") for entry in entries)
    return {name: value for name, equals, value in pairs if equals and is_variable_name(name)}


def _unquote(line: str) -> str:
    text = line.strip()
    if not text.startswith(("export ", "declare -x ")):
        return text
    try:
        words = shlex.split(text, comments=True)
    except ValueError:
        return text.partition(" ")[2]
    return next((word for word in words if "=" in word), "")
