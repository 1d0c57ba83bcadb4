"""Where a part comes from: a Git repository and tag, a folder, a tarball or a wheel; and what versions are called."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from ...errors import InvalidVersion

GIT, FOLDER, TARBALL, WHEEL, INDEX = "git", "folder", "tarball", "wheel", "index"
"""Kinds of a `Source`; INDEX is a wheel that pip downloads."""

UPSTREAM = {
    "nccl": "https://github.com/NVIDIA/nccl",
    "ofi": "https://github.com/aws/aws-ofi-nccl",
    "tests": "https://github.com/NVIDIA/nccl-tests",
}

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,39}\Z")
_SCHEMES = ("https", "http", "ssh", "git", "file")
_BY_SSH = re.compile(r"[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:[^\s-]\S*\Z")
_TARBALLS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".txz")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


class Source(NamedTuple):
    """Where a part comes from."""

    kind: str
    place: str
    """URL, path, or the package's name."""

    sha256: str = ""
    """What the file must have; empty where nobody said."""


class Part(NamedTuple):
    """A version of NCCL, of the plugin or of nccl-tests, and where it comes from."""

    version: str
    """Without the ``v`` in front, e.g. ``2.28.7-1``."""

    source: Source

    @property
    def tags(self) -> list[str]:
        """What the version may be called in a repository, likeliest first."""
        if not self.version[0].isdigit():
            return [self.version]
        # The plugin's releases ended in -aws once, and do not any more.
        plain = self.version.removesuffix("-aws")
        return list(dict.fromkeys((f"v{self.version}", self.version, f"v{plain}")))


def parse_version(text: str, of: str) -> str:
    """Give a version without the ``v`` in front.

    Args:
        text: What the user wrote, e.g. ``v2.28.7-1``.
        of: Whose version it is, for the message.

    Raises:
        InvalidVersion: it is no word that a tag and a folder could be called by.
    """
    if not _WORD.match(text) or ".." in text:
        raise InvalidVersion(
            f"{text!r} is no version of {of}", hint="write one word of letters, digits and . _ + -, e.g. v2.28.7-1"
        )
    return text[1:] if text[0] == "v" and text[1:2].isdigit() else text


def parse_source(text: str, sha256: str = "") -> Source:
    """Find out what a source is.

    Args:
        text: A URL of a Git repository, or the path of a repository, a folder, a tarball or a wheel.
        sha256: The checksum that a tarball or wheel must have.

    Raises:
        InvalidVersion: it is nothing of these, or a checksum was given for what has none.
    """
    checksum = parse_sum(sha256)
    kind, place = _classify(text)
    if sha256 and kind not in (TARBALL, WHEEL):
        raise InvalidVersion(
            f"{text} is a {kind}, which has no checksum of a file",
            hint="name a tarball or a wheel, or leave the checksum out",
        )
    return Source(kind, place, checksum)


def parse_sum(text: str) -> str:
    """Give a SHA-256 as it is compared; an empty text stays so.

    Raises:
        InvalidVersion: it is none.
    """
    if text and not _SHA256.match(text.lower()):
        raise InvalidVersion(f"{text!r} is no SHA-256", hint="write its 64 hexadecimal digits, as sha256sum does")
    return text.lower()


def _classify(text: str) -> tuple[str, str]:
    if not text or text.startswith("-") or not text.isprintable():
        raise InvalidVersion(f"{text!r} is no source", hint="write a URL or a path")
    scheme, separator, _ = text.partition("://")
    if separator:
        if scheme not in _SCHEMES or " " in text:
            raise InvalidVersion(f"{text!r} is no URL that Git takes here", hint=f"use one of {', '.join(_SCHEMES)}")
        if text.endswith(_TARBALLS):
            raise InvalidVersion(f"{text} is a file, no repository", hint="download it, and give its path")
        return GIT, text
    if _BY_SSH.match(text) and not os.path.exists(text):
        return GIT, text
    if "::" in text.partition("/")[0]:
        raise InvalidVersion(f"{text!r} names a program of Git's", hint="write a URL or a path")
    path = os.path.abspath(text)
    if os.path.isdir(path):
        is_bare = os.path.isfile(f"{path}/HEAD") and os.path.isdir(f"{path}/objects")
        return (GIT if is_bare or os.path.lexists(f"{path}/.git") else FOLDER), path
    if not os.path.isfile(path):
        raise InvalidVersion(f"there is no file or folder {path}", hint="give the path of what you have")
    if path.endswith(".whl"):
        return WHEEL, path
    if path.endswith(_TARBALLS):
        return TARBALL, path
    raise InvalidVersion(f"{path} is neither a tarball nor a wheel", hint=f"its name should end in {_TARBALLS[1]}")
