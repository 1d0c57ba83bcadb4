"""The AWS OFI NCCL plugin: whether the one that jobs find brings a tuner.

A tuner chooses algorithm and protocol by message size; with NCCL_ALGO or NCCL_PROTO set it does not load. It is part
of the plugin from 1.16 on (https://github.com/aws/aws-ofi-nccl/pull/922), and a library beside it before.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

INSTALLER_FOLDERS = ("/opt/amazon/ofi-nccl/lib", "/opt/amazon/ofi-nccl/lib64", "/opt/amazon/aws-ofi-nccl/lib")
"""Where the EFA installer has put the plugin; its place has moved."""

_TUNERS = ("libnccl-ofi-tuner.so", "libnccl-tuner-ofi.so")
_PLUGINS = ("libnccl-net-ofi.so", "libnccl-net.so")

_TUNER_INTERFACE = b"ncclTunerPlugin_v"
"""The symbol that NCCL looks for; HPC-X's libnccl-net.so is named as ours, so the maker is asked for too."""

_MAKER = b"aws-ofi-nccl "
_FIRST_WITH_TUNER = (1, 16)

_READ_LIMIT_BYTES = 2 << 20
"""Release 1.16.3 has 340 KB; a build with debug information keeps symbols and texts in front."""


def find_tuner(folders: Iterable[str]) -> str:
    """Give the path of the library that brings AWS's tuner; empty where none was seen in these folders.

    A few file-system calls a folder, so not for every prolog. A library that cannot be read brings none.
    """
    for folder in folders:
        for name in _TUNERS:
            path = f"{folder}/{name}"
            if os.path.exists(path):
                return path
        for name in _PLUGINS:
            path = f"{folder}/{name}"
            if _has_tuner(_read_head(path)):
                return path
    return ""


def find_plugin(folders: Iterable[str] = INSTALLER_FOLDERS) -> tuple[str, str]:
    """Give the folder of the first plugin found in these folders, or one level below them, and its version.

    The EFA installer has put it into a folder by the processor's name, e.g. ``lib/x86_64-linux-gnu``. Both are empty
    where there is none; the version is, where the library does not say it.
    """
    for folder in folders:
        try:
            below = sorted(entry.path for entry in os.scandir(folder) if entry.is_dir())
        except OSError:
            continue
        for place in (folder, *below):
            for name in _PLUGINS:
                data = _read_head(f"{place}/{name}")
                if _MAKER in data:
                    return place, _version_text(data)
    return "", ""


def has_plugin(folder: str) -> bool:
    """Whether a folder has the plugin's library by one of its names."""
    return any(os.path.isfile(f"{folder}/{name}") for name in _PLUGINS)


def _has_tuner(data: bytes) -> bool:
    if _MAKER not in data:
        return False
    return _TUNER_INTERFACE in data or _version(data) >= _FIRST_WITH_TUNER


def _version(data: bytes) -> tuple[int, ...]:
    """Read the number behind the maker's name, as the plugin prints it when it starts."""
    text = data[data.index(_MAKER) + len(_MAKER) :][:16].decode("ascii", "replace")
    numbers = []
    for part in text.split(".")[:2]:
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def _version_text(data: bytes) -> str:
    """Read the whole version behind the maker's name, e.g. ``1.17.2-aws``; empty where it is no number."""
    text = data[data.index(_MAKER) + len(_MAKER) :][:40].decode("ascii", "replace")
    word = ""
    for character in text:
        if not (character.isascii() and (character.isalnum() or character in "._+-")):
            break
        word += character
    return word if word[:1].isdigit() else ""


def _read_head(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        return os.read(fd, _READ_LIMIT_BYTES)
    except OSError:
        return b""
    finally:
        os.close(fd)
