"""What enroot's containers need in their root, made from an image's configuration.

enroot reads ``/etc/environment`` for the image's variables, mounts what ``/etc/fstab`` names, and runs ``/etc/rc``
with the command as arguments. Source: enroot, doc/image-format.md.
"""

from __future__ import annotations

import json
import os
import posixpath
import shlex
from typing import Any, NamedTuple

from ...errors import ImportFailed

_DEFAULT_COMMAND = ("/bin/sh",)


class ImageConfig(NamedTuple):
    """What an image says of how it is run. Source: OCI Image Specification, "Image Configuration"."""

    architecture: str
    environment: tuple[str, ...]
    """``NAME=VALUE``."""

    folder: str
    """Where commands run."""

    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    volumes: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> ImageConfig:
        """Read a configuration.

        Raises:
            ValueError, TypeError: it is none.
        """
        document: dict[str, Any] = json.loads(text)
        config: dict[str, Any] = document.get("config") or {}
        folder = config.get("WorkingDir") or "/"
        return cls(
            str(document.get("architecture", "")),
            _texts(config.get("Env")),
            posixpath.normpath(f"/{folder}").replace("//", "/"),
            _texts(config.get("Entrypoint")),
            _texts(config.get("Cmd")),
            tuple(sorted(config.get("Volumes") or {})),
        )

    def format_environment(self) -> str:
        """Give ``/etc/environment``, without variables of several lines, which cannot be written there."""
        return "".join(f"{line}\n" for line in self.environment if "\n" not in line and "=" in line)

    def format_start(self) -> str:
        """Give ``/etc/rc``."""
        entrypoint = shlex.join(self.entrypoint)
        command = shlex.join(self.command if self.entrypoint or self.command else _DEFAULT_COMMAND)
        folder = shlex.quote(self.folder)
        return (
            f"mkdir -p {folder} 2>/dev/null\n"
            f"cd {folder} && unset OLDPWD || exit 1\n"
            "[ ! -s /etc/rc.local ] || . /etc/rc.local\n"
            f"[ $# -gt 0 ] || set -- {command}\n"
            f'exec {entrypoint}{" " if entrypoint else ""}"$@"\n'
        )

    def format_mounts(self) -> str:
        """Give ``/etc/fstab``: each volume is a folder that can be written to."""
        volumes = [volume for volume in self.volumes if volume.startswith("/") and len(volume.split()) == 1]
        return "".join(
            f"${{ENROOT_ROOTFS}}{volume} {volume} none x-create=dir,bind,rw,nosuid,nodev\n" for volume in volumes
        )


def write_root_config(root: str, config: ImageConfig) -> None:
    """Write the files into an unpacked image, whose links may lead anywhere: none of them is followed.

    Raises:
        OSError: they cannot be written.
    """
    root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        etc_fd = _enter(root_fd, "etc")
        try:
            _write(etc_fd, "environment", config.format_environment(), 0o644)
            _write(etc_fd, "fstab", config.format_mounts(), 0o644)
            _write(etc_fd, "rc", config.format_start(), 0o755)
            _write(etc_fd, "rc.local", "", 0o644)
        finally:
            os.close(etc_fd)
        _make_folder(root_fd, config.folder)
    finally:
        os.close(root_fd)


def _make_folder(root_fd: int, path: str) -> None:
    """Make the folder that commands run in: a container's root may be read-only. Behind a link nothing is made."""
    folder_fd = os.dup(root_fd)
    try:
        for name in filter(None, path.split("/")):
            inner_fd = _enter(folder_fd, name)
            os.close(folder_fd)
            folder_fd = inner_fd
    except ImportFailed:
        pass
    finally:
        os.close(folder_fd)


def _enter(folder_fd: int, name: str) -> int:
    """Open a folder, made if it is missing."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name, flags, dir_fd=folder_fd)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise ImportFailed(f"the image's /{name} is a link or a file", hint="build it with a folder there") from error
    os.mkdir(name, 0o755, dir_fd=folder_fd)
    return os.open(name, flags, dir_fd=folder_fd)


def _write(folder_fd: int, name: str, text: str, mode: int) -> None:
    try:
        os.unlink(name, dir_fd=folder_fd)
    except FileNotFoundError:
        pass
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=folder_fd)
    with open(fd, "w", errors="surrogateescape") as file:
        file.write(text)
        os.fchmod(fd, mode)


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(item) for item in value or ())
