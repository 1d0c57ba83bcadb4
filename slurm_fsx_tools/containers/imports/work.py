"""What there is to do for one image, as importers are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...programs import Programs
    from ..names import ImageName
    from .credentials import Credentials
    from .manifests import Manifest


class Work(NamedTuple):
    """One image to be made."""

    name: ImageName
    manifest: Manifest
    architecture: str
    credentials: Credentials | None
    insecure_http: bool
    output: str
    """The ``.sqsh`` to write, in the staging folder."""

    layout: str
    """A folder for what is being downloaded, on the file system of the layers; it is missing or empty."""

    layers: str
    """The folder of downloaded layers."""

    scratch: str
    """A folder of our own, where there is room to unpack."""

    processors: int
    programs: Programs
    tell: Callable[[str, int, int], None]
    """Gets the phase, and how many bytes of how many are done; 0 where the total is unknown."""

    say: Callable[[str], None]
    """Gets what a program says."""
