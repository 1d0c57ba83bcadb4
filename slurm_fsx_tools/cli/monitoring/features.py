"""What other features tell monitoring: images, their imports, and the NCCL version."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from ...containers.imports.state import DIED, FAILED, WAITING, read_states
from ...containers.listing import list_images
from ...containers.store import Store
from ...errors import SlurmFsxError
from ...nccl.versions import current_id

if TYPE_CHECKING:
    from ...config.model import Config

IMPORT_RESULTS = ("done", "failed", "running", "waiting")


def count_imports(config: Config) -> dict[str, int]:
    """Count images by how their last import ended, or is going; nothing where that cannot be read."""
    try:
        states = read_states(Store(config.below_fsx("containers")))
    except (OSError, SlurmFsxError):
        return {}
    counts = Counter(_result(state.phase, state.is_under_way) for state in states)
    return {result: counts[result] for result in IMPORT_RESULTS}


def image_names(config: Config) -> list[str]:
    """Name the images of the catalogue, each by the shortest name that means it; nothing where it cannot be read."""
    try:
        listing = list_images(Store(config.below_fsx("containers")), config, time.time())
    except (OSError, SlurmFsxError):
        return []
    return [next(iter(listing.names(image)), image.stem) for image in listing.images]


def nccl_version(config: Config) -> str:
    """Name the NCCL that jobs get; empty where none of ours is installed."""
    return current_id(config.below_fsx("nccl"))


def _result(phase: str, is_under_way: bool) -> str:
    if is_under_way:
        return "waiting" if phase == WAITING else "running"
    return "failed" if phase in (FAILED, DIED) else "done"
