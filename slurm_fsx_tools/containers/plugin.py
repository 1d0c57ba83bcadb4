"""The catalogue's part in the hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import resolution
from .catalogue import Catalogue

if TYPE_CHECKING:
    from ..config.model import Config


def slurm_fsx_resolve_container(name: str, config: Config) -> str:
    """Choose the image by its name in the catalogue; raises ImageNotFound with the nearest names."""
    return resolution.resolve(name, Catalogue(config.below_fsx("containers")), config).path
