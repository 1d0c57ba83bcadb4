"""Makes an image by ``enroot import``.

Source: enroot, doc/cmd/import.md and doc/configuration.md.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ...programs import ProgramFailed, find_program
from .credentials import FILE, enroot_file
from .disk import sum_of_files

if TYPE_CHECKING:
    from .work import Work

NAME = "enroot"

_KEPT_LINES = 20
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_REGISTRIES = {"docker.io": "registry-1.docker.io"}
_PASSED_ON = ("ENROOT_LIBRARY_PATH", "ENROOT_SYSCONF_PATH", "ENROOT_CONNECT_TIMEOUT", "ENROOT_MAX_CONNECTIONS")


_NETWORK = (
    *("curl: (", "error code: 5", "error code: 429", "too many requests", "could not resolve", "failed to connect"),
    *("timed out", "timeout", "connection", "neither read nor wrote"),
)
"""What enroot and its curl say where the registry, or the way to it, is at fault: that may pass."""

_FOR_EVER = ("error code: 40", "operation not permitted", "permission denied", "capabilities", "command not found")
"""What they say where trying again changes nothing: a manifest of a kind that enroot does not ask for is a 404."""


class Unfit(ProgramFailed):
    """An image that enroot does not make, though the network is not at fault."""

    is_final = False
    """Whether it never will."""


def missing() -> list[str]:
    """Name the programs that are not installed."""
    return [program for program in ("enroot", "mksquashfs", "unsquashfs") if not find_program(program)]


def fetch(work: Work) -> None:
    """Download and build: enroot does both in one."""
    cache = f"{work.layers}/{NAME}"
    config = f"{work.scratch}/config"
    for folder in (cache, config, f"{work.scratch}/temp", f"{work.scratch}/home"):
        os.makedirs(folder, mode=0o700, exist_ok=True)
    path = f"{config}/{FILE}"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, enroot_file(work.name.registry, work.credentials))
    finally:
        os.close(fd)
    program = find_program("enroot") or NAME
    environment = {
        **work.programs.environment,
        # Its helpers, enroot-aufs2ovlfs for one, are beside it.
        "PATH": f"{os.path.dirname(program)}:{work.programs.environment['PATH']}",
        **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        "HOME": f"{work.scratch}/home",
        "TMPDIR": f"{work.scratch}/temp",
        # On local disk, since on a shared file system enroot's locks time out; the layers alone are for all nodes.
        "ENROOT_TEMP_PATH": f"{work.scratch}/temp",
        "ENROOT_RUNTIME_PATH": f"{work.scratch}/run",
        "ENROOT_DATA_PATH": f"{work.scratch}/data",
        "ENROOT_CACHE_PATH": cache,
        "ENROOT_CONFIG_PATH": config,
        "ENROOT_MAX_PROCESSORS": str(work.processors),
        "ENROOT_SQUASH_OPTIONS": " ".join(_squash_options()),
        **({"ENROOT_ALLOW_HTTP": "yes"} if work.insecure_http else {}),
    }
    registry = _REGISTRIES.get(work.name.registry, work.name.registry)
    # By digest, in the tag's place: all releases take it so, and the tag cannot move in between.
    uri = f"docker://{registry}#{work.name.repository}:{work.manifest.digest}"
    total = work.manifest.size_bytes
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        work.say(line)

    def look() -> None:
        built = _size(work.output)
        if built:
            work.tell("building", built, 0)
        else:
            # enroot packs layers anew, so what they take is near to, not equal to, what the manifest says.
            work.tell("downloading", min(sum_of_files(cache, _hex_digests(work)), total), total)

    try:
        work.programs._replace(environment=environment).run(
            [
                *(program, "import", "--output", work.output),
                *("--arch", _MACHINES.get(work.architecture, work.architecture), "--", uri),
            ],
            cwd=work.scratch,
            on_line=say,
            on_look=look,
        )
    except ProgramFailed as error:
        unfit = _unfit(error, said)
        if unfit is None:
            raise
        raise unfit from error
    finally:
        os.unlink(path)


def build(work: Work) -> None:
    """Nothing: `fetch` did it."""


def drop_damaged(work: Work) -> None:
    """Remove the image's layers from enroot's cache: they are packed anew there, so no digest tells good from bad."""
    cache = f"{work.layers}/{NAME}"
    for digest in _hex_digests(work):
        try:
            os.unlink(f"{cache}/{digest}")
        except FileNotFoundError:
            pass


def _unfit(error: ProgramFailed, said: list[str]) -> Unfit | None:
    """Give the failure as enroot's own; None where the network is at fault."""
    text = "\n".join([*said[-_KEPT_LINES:], error.message]).lower()
    if any(sign in text for sign in _NETWORK):
        return None
    unfit = Unfit(error.message, error.hint)
    if any(sign in text for sign in _FOR_EVER):
        unfit.is_final = True
        unfit.hint = "install skopeo and umoci, which are taken then: trying enroot again changes nothing"
    return unfit


def _squash_options() -> list[str]:
    from .squashing import options

    return ["-exit-on-error", *options()]


def _hex_digests(work: Work) -> set[str]:
    return {blob.digest.partition(":")[2] for blob in work.manifest.blobs}


def _size(path: str) -> int:
    try:
        return os.stat(path, follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0
