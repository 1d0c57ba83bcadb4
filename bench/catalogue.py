"""Listing a catalogue of 10,000 images: anew, by what root has kept of it, and as a whole command."""

from __future__ import annotations

import os
import statistics
import sys
import time
from typing import TYPE_CHECKING

from slurm_fsx_tools.config.snapshot import load_snapshot
from slurm_fsx_tools.containers.catalogue import Catalogue
from slurm_fsx_tools.containers.index import update_index
from slurm_fsx_tools.containers.listing import list_anew, list_images
from slurm_fsx_tools.containers.store import Store

from .figures import Figure
from .pairs import medians

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from slurm_fsx_tools.containers.listing import Listing

IMAGES = 10_000
ROUNDS = 11
OLD_S = 1_700_000_000
SUPERBLOCK = b"hsqs" + bytes(24) + b"\4\0" + bytes(10) + b"\x60" + bytes(55)


def measure(folder: Path) -> list[Figure]:
    """Measure on files of their own, each with a superblock: hard links to one would spare the file system work."""
    store = fill(folder / "fsx/containers")
    config_path = folder / "config.yaml"
    config_path.write_text(f"fsx: {{root: {folder}/fsx}}\nruntime_dir: {folder}/run\n")
    config = load_snapshot(str(config_path)).config
    cold_ms = median_ms(lambda: list_anew(Catalogue.scan(store.folder), config))
    update_index(config, must_ask=False)
    warm_ms = median_ms(lambda: list_images(store, config, time.time()))
    environment = {"PATH": os.defpath, "SLURM_FSX_CONFIG": str(config_path)}
    program = [sys.executable, "-I", "-m", "slurm_fsx_tools", "containers"]
    whole = {"value": ([*program, "list"], environment), "floor": ([*program, "--help"], environment)}
    whole_ms = medians(whole, ROUNDS)
    return [
        Figure.absolute(f"catalogue listing in-process, {IMAGES} images, cold", cold_ms, "ms", 1000),
        Figure.absolute(f"catalogue listing in-process, {IMAGES} images, warm", warm_ms, "ms", 50),
        Figure.against_floor("containers list against --help, warm", whole_ms["value"], whole_ms["floor"], "ms", 4),
    ]


def fill(folder: Path) -> Store:
    """Make a catalogue of 2,000 repositories, whose images have been there for long."""
    folder.mkdir(parents=True)
    for number in range(IMAGES):
        image = folder / f"nvcr.io_nvidia_tool{number // 5}-24.{number % 5 + 2:02}-py3.sqsh"
        image.write_bytes(SUPERBLOCK)
        os.utime(image, (OLD_S, OLD_S))
    return Store(str(folder))


def median_ms(function: Callable[[], Listing]) -> float:
    """Give a call's median time over some rounds; each must find all images."""
    times = []
    for _ in range(ROUNDS):
        before = time.perf_counter()
        listing = function()
        times.append((time.perf_counter() - before) * 1000)
        if len(listing.images) != IMAGES:
            raise SystemExit(f"{len(listing.images)} images were listed, and there are {IMAGES}")
    return statistics.median(times)
