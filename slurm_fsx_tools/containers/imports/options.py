"""How images are imported, and what comes of it."""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ...files import WORLD_READABLE
from ...programs import STALL_S, StopSign
from .manifests import architecture_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..store import Store


@dataclass(frozen=True)
class Retries:
    """How an import tries again what may go better later."""

    attempts: int = 6
    first_wait_s: float = 5.0
    longest_wait_s: float = 300.0
    random: Callable[[], float] = random.random

    def wait_s(self, attempt: int) -> float:
        """Give how long to wait after an attempt, counted from 1: twice as long each time, give or take a half."""
        return min(self.first_wait_s * 2.0 ** (attempt - 1), self.longest_wait_s) * (0.5 + self.random())


@dataclass(frozen=True)
class ImportOptions:
    """How images are imported."""

    architecture: str = "auto"
    """As the OCI image specification has it; this machine's with ``auto``."""

    importer: str = "auto"
    insecure_http: bool = False
    credentials_file: str = ""
    """enroot's; where it reads it if empty."""

    scratch: str = "/var/tmp"  # noqa: S108  # a folder is made in there, which nobody else can enter
    registry_slots: int = 4
    processors: int = field(default_factory=lambda: os.cpu_count() or 1)
    force: bool = False
    """Replace an image whatever its record says."""

    mode: int = WORLD_READABLE
    other_stores: tuple[Store, ...] = ()
    """Stores whose pauses of a registry count as well."""

    retries: Retries = field(default_factory=Retries)
    stall_s: float = STALL_S
    stop: StopSign = field(default_factory=StopSign)
    clock: Callable[[], float] = time.time

    @property
    def wanted_architecture(self) -> str:
        return architecture_of(os.uname().machine) if self.architecture == "auto" else self.architecture


class Imported(NamedTuple):
    """An image that is in the store."""

    path: str
    digest: str
    """Of the manifest; empty where nobody knows, since the file was not imported."""

    sha256: str
    """Of the file; empty like the digest."""

    size_bytes: int
    is_new: bool
    """Whether it came now."""

    note: str = ""
    """What a reader should know: why a file was left as it is."""


class Plan(NamedTuple):
    """What an import would do."""

    file: str
    digest: str
    download_bytes: int
    action: str
    """``import``, ``replace``, `UNCHANGED` or `KEPT`."""

    note: str
