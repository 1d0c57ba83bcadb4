"""What makes an image's file from a registry: enroot where it is installed, else skopeo, umoci and mksquashfs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ...errors import ConfigError
from ...programs import find_program
from . import enroot as enroot_importer
from . import skopeo as skopeo_importer

if TYPE_CHECKING:
    from .work import Work

IMPORTERS = ("auto", "enroot", "skopeo")

_PACKAGES = {"mksquashfs": "squashfs-tools", "unsquashfs": "squashfs-tools"}
"""Debian's, where they are not called like the program."""


class Importer(Protocol):
    """A way to make an image."""

    NAME: str

    def missing(self) -> list[str]:
        """Name the programs that are not installed."""

    def fetch(self, work: Work) -> None:
        """Do what needs the registry."""

    def build(self, work: Work) -> None:
        """Do the rest: afterwards the output is there."""

    def drop_damaged(self, work: Work) -> None:
        """Remove what was downloaded and is not what its digest says."""


_BY_NAME: dict[str, Importer] = {
    enroot_importer.NAME: enroot_importer,
    skopeo_importer.NAME: skopeo_importer,
}


def choose_importer(wanted: str) -> Importer:
    """Give an importer by name, or with ``auto`` the first whose programs are all there.

    Raises:
        ConfigError: its programs are missing.
    """
    names = _BY_NAME if wanted == "auto" else (wanted,)
    missing: list[str] = []
    for name in names:
        missing = _BY_NAME[name].missing()
        if not missing:
            return _BY_NAME[name]
    packages = " ".join(sorted({_PACKAGES.get(program, program) for program in missing}))
    if not find_program("apt-get"):
        raise ConfigError(f"{', '.join(missing)} is missing", hint="install it, or enroot")
    raise ConfigError(f"{', '.join(missing)} is missing", hint=f"run: apt-get install {packages}")
