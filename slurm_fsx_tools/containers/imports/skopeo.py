"""Makes an image by skopeo, umoci and mksquashfs, which Debian has.

skopeo copies into an OCI layout whose ``blobs`` folder is a link to the store's layers: so a layer that is there
already is not downloaded again, for another tag or after a kill. umoci checks every layer against its digest.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING

from ...errors import ImportFailed, RegistryBusy, RegistryDenied
from ...folders import remove_tree
from ...programs import ProgramFailed, find_program
from .credentials import auth_file
from .disk import sum_of_files
from .root_config import ImageConfig, write_root_config
from .squashing import options

if TYPE_CHECKING:
    from .work import Work

NAME = "skopeo"

_REFERENCE = "image"
_POLICIES = ("/etc/containers/policy.json",)
_TOO_OFTEN = ("toomanyrequests", "too many requests")
_REFUSED = ("unauthorized", "authentication required", "access denied")


def missing() -> list[str]:
    """Name the programs that are not installed."""
    return [program for program in ("skopeo", "umoci", "mksquashfs", "unsquashfs") if not find_program(program)]


def fetch(work: Work) -> None:
    """Download the layers that are not there yet."""
    blobs = _blobs(work)
    os.makedirs(blobs, mode=0o700, exist_ok=True)
    os.makedirs(work.layout, mode=0o700, exist_ok=True)
    os.symlink(os.path.abspath(work.layers), f"{work.layout}/blobs")
    _drop_links(blobs)
    for blob in work.manifest.blobs:
        _take(f"{blobs}/{_hex(blob.digest)}", blob.size_bytes)
    path = f"{work.scratch}/auth.json"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, auth_file(work.name.registry, work.credentials))
    finally:
        os.close(fd)
    names = {_hex(blob.digest) for blob in work.manifest.blobs}
    total = work.manifest.size_bytes

    def look() -> None:
        done = sum_of_files(blobs, names) + sum_of_files(work.layout, (), "oci-put-blob")
        work.tell("downloading", min(done, total), total)

    look()
    try:
        work.programs.run(
            [
                find_program("skopeo") or NAME,
                # A site's rules on signatures count; without any, skopeo would refuse every image.
                *([] if any(map(os.path.exists, _POLICIES)) else ["--insecure-policy"]),
                *("--override-os", "linux", "--override-arch", work.architecture, "--tmpdir", work.scratch),
                *("copy", "--authfile", path, f"--src-tls-verify={'false' if work.insecure_http else 'true'}"),
                f"docker://{work.name.full_repository}@{work.manifest.digest}",
                f"oci:{work.layout}:{_REFERENCE}",
            ],
            cwd=work.scratch,
            on_line=work.say,
            on_look=look,
        )
    except ProgramFailed as error:
        text = str(error).lower()
        if any(sign in text for sign in _TOO_OFTEN):
            raise RegistryBusy(error.message, error.hint) from error
        if any(sign in text for sign in _REFUSED):
            raise RegistryDenied(error.message, hint="see the registry's line in enroot's .credentials") from error
        raise
    finally:
        os.unlink(path)
    look()


def build(work: Work) -> None:
    """Unpack the layers, add what enroot's containers need, and pack it all."""
    config = _read_config(work)
    if config.architecture != work.architecture:
        raise ImportFailed(
            f"{work.name} is made for {config.architecture}, and the nodes are {work.architecture}",
            hint="choose by --arch or containers.architecture",
        )
    root = f"{work.scratch}/root"
    rootless = [] if os.geteuid() == 0 else ["--rootless"]
    work.tell("unpacking", 0, 0)
    work.programs.run(
        [find_program("umoci") or "umoci", "raw", "unpack", *rootless, "--image", f"{work.layout}:{_REFERENCE}", root],
        cwd=work.scratch,
        on_line=work.say,
    )
    # Some images keep even root out of a file; in a container it belongs to the user, who may read it then.
    work.programs.run(["chmod", "--recursive", "--quiet", "u+rwX", root], cwd=work.scratch)
    write_root_config(root, config)
    work.tell("building", 0, 0)

    def look() -> None:
        try:
            work.tell("building", os.stat(work.output, follow_symlinks=False).st_size, 0)
        except FileNotFoundError:
            pass

    work.programs.run(
        [
            *(find_program("mksquashfs") or "mksquashfs", root, work.output, "-noappend", "-no-progress", "-all-root"),
            *("-exit-on-error", "-processors", str(work.processors), *options()),
            *("-wildcards", "-e", "dev/*"),  # the node's own devices are mounted there
        ],
        cwd=work.scratch,
        on_look=look,
    )


def drop_damaged(work: Work) -> None:
    """Remove the image's layers whose content is not what their digest says."""
    for blob in work.manifest.blobs:
        path = f"{_blobs(work)}/{_hex(blob.digest)}"
        checksum = hashlib.sha256()
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        with open(fd, "rb") as file:
            for chunk in iter(lambda: file.read(1 << 20), b""):
                checksum.update(chunk)
                work.programs.stop.check()
        if checksum.hexdigest() != _hex(blob.digest):
            os.unlink(path)


def _blobs(work: Work) -> str:
    return f"{work.layers}/sha256"


def _drop_links(blobs: str) -> None:
    """Remove what is no file: skopeo would write through a link."""
    with os.scandir(blobs) as entries:
        for entry in entries:
            if not entry.is_file(follow_symlinks=False):
                remove_tree(entry.path)


def _take(path: str, size_bytes: int) -> None:
    """Note that a layer is used, so that it stays; remove one that is not whole, since skopeo looks at names alone."""
    try:
        status = os.stat(path, follow_symlinks=False)
        if status.st_size != size_bytes:
            os.unlink(path)
        else:
            os.utime(path, follow_symlinks=False)
    except FileNotFoundError:
        pass


def _read_config(work: Work) -> ImageConfig:
    """Read the image's configuration from the layout."""
    try:
        with open(f"{work.layout}/index.json") as file:
            manifest = json.load(file)["manifests"][0]["digest"]
        with open(f"{_blobs(work)}/{_hex(manifest)}") as file:
            config = json.load(file)["config"]["digest"]
        with open(f"{_blobs(work)}/{_hex(config)}") as file:
            return ImageConfig.parse(file.read())
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ProgramFailed(f"skopeo left no configuration of {work.name}: {error}", hint="run it again") from error


def _hex(digest: str) -> str:
    return digest.partition(":")[2]
