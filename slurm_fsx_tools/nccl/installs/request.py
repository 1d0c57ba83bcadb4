"""What is to be installed: parts, where they come from, for which GPUs, with which tools; and what that is called."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ...errors import InvalidVersion, SlurmFsxError
from ...files import read_trusted
from ..manifest import FILE, Manifest, is_version_id, version_folder
from .sources import INDEX, WHEEL

if TYPE_CHECKING:
    from .sources import Part
    from .tools import Tools

FETCH, NCCL, OFI, TESTS, INSTALL = "fetch", "nccl", "ofi", "tests", "install"
TITLES = {
    FETCH: "fetching the sources",
    NCCL: "building NCCL",
    OFI: "building the network plugin",
    TESTS: "building nccl-tests",
    INSTALL: "putting it together",
}


@dataclass(frozen=True)
class Request:
    """What is to be installed."""

    root: str
    """``/fsx/nccl``."""

    logs: str
    """``/fsx/logs/nccl``."""

    nccl: Part
    ofi: Part | None
    """The plugin to build; None for the one in `ofi_folder`, or none at all."""

    ofi_folder: str
    tests: Part | None
    tools: Tools
    architectures: tuple[str, ...]
    machine: str
    jobs: int = 1

    @property
    def is_wheel(self) -> bool:
        """Whether NCCL is not compiled but comes as NVIDIA has compiled it."""
        return self.nccl.source.kind in (WHEEL, INDEX)

    @property
    def ofi_version(self) -> str:
        """The plugin's version, built or found."""
        if self.ofi is not None:
            return self.ofi.version
        return (self.tools.plugin or "unknown") if self.ofi_folder else ""

    @property
    def parts(self) -> dict[str, Part]:
        """The parts that are fetched."""
        parts = {NCCL: self.nccl, OFI: self.ofi, TESTS: self.tests}
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def steps(self) -> list[str]:
        """The steps of the build, in order."""
        return [FETCH, *(name for name in self.parts if name != NCCL or not self.is_wheel), INSTALL]

    @property
    def compiles(self) -> bool:
        """Whether anything is compiled at all."""
        return not self.is_wheel or self.ofi is not None or self.tests is not None

    @property
    def base_id(self) -> str:
        """The version's id, if no other installation has it."""
        words = [self.nccl.version + ("-wheel" if self.is_wheel else "")]
        if self.ofi_version:
            words.append(f"ofi-{self.ofi_version}" + ("" if self.ofi else "-efa"))
        if self.tools.cuda:
            words.append(f"cuda-{self.tools.cuda}")
        version_id = "_".join([*words, self.machine])
        if not is_version_id(version_id):
            raise InvalidVersion(f"{version_id!r} is too long for a version's name", hint="shorten the tags")
        return version_id

    def describe(self) -> dict[str, Any]:
        """Give all that the result depends on, as json can carry it."""
        described: dict[str, Any] = json.loads(json.dumps({**asdict(self), **self._named_tuples(), "jobs": 0}))
        return described

    def matches(self, manifest: Manifest) -> bool:
        """Whether a version that is there was made from the same."""
        wanted = {name: (part.version, part.source.place) for name, part in self.parts.items()}
        made = {name: (record.get("version"), record.get("from")) for name, record in manifest.sources.items()}
        sums = [(part.source.sha256, manifest.sources.get(name, {}).get("sha256")) for name, part in self.parts.items()]
        return (
            wanted == made
            and all(not checksum or checksum == found for checksum, found in sums)
            and sorted(self.architectures) == sorted(manifest.architectures)
            and (self.tools.cuda, self.tools.libfabric, self.tools.mpi)
            == (manifest.cuda, manifest.libfabric, manifest.mpi)
            and (self.ofi is not None or self.ofi_folder == manifest.ofi_folder)
        )

    def _named_tuples(self) -> dict[str, Any]:
        return {
            "tools": self.tools._asdict(),
            **{name: [part.version, *part.source] for name, part in self.parts.items()},
        }


def choose_id(request: Request, anew: bool = False) -> tuple[str, Manifest | None]:
    """Give the version's id, and the manifest of what is there under it if that is what is wanted.

    A version that is there is never changed: another one with the same versions of its parts gets a number.

    Args:
        request: What is wanted.
        anew: Not to be content with one that is there.

    Raises:
        InvalidVersion: it would be too long.
    """
    base = request.base_id
    number = 1
    while True:
        version_id = base if number == 1 else f"{base}_{number}"
        folder = version_folder(request.root, version_id)
        if not os.path.lexists(folder):
            return version_id, None
        try:
            manifest = Manifest.parse(read_trusted(f"{folder}/{FILE}"), f"{folder}/{FILE}")
        except (OSError, SlurmFsxError):
            manifest = None
        if manifest is not None and not anew and request.matches(manifest):
            return version_id, manifest
        number += 1
