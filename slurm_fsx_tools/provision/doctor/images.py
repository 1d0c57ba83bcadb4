"""Checks of images: there, whole, found by name, and imports that ended well."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING, Any

from ...containers.care.verifying import verify
from ...containers.catalogue import Catalogue
from ...containers.imports.state import DIED, FAILED, read_states, state_path
from ...containers.index import index_path, read_index
from ...containers.listing import list_images
from ...containers.resolution import resolve
from ...containers.store import Store
from ...errors import ImageNotFound, SlurmFsxError
from .findings import NOTE, PROBLEM, WARNING, Check, Finding, Probe, Trouble

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .findings import Context, Facts

_LOOK_S = 1.5
"""How long images are looked into; the newest first."""

_RECENT_S = 7 * 24 * 3600.0
"""How long a failed download is told of."""


NO_IMAGES = Trouble(
    WARNING,
    "There is no image in {folder}.",
    "No --container-name finds anything. Name images in {fsx}/config/containers.txt first.",
    "slurm-fsx containers sync --background",
)
DAMAGED = Trouble(
    PROBLEM,
    "{path} cannot be used: {problem}.",
    "Jobs that name it fail as they start, or as they read what is missing.",
    "slurm-fsx containers remove {file}",
)
DAMAGED_IMPORT = DAMAGED._replace(command="slurm-fsx containers remove {file} && slurm-fsx containers import {uri}")
CLOSED = Trouble(
    WARNING,
    "{path} can be read by its owner alone (mode {mode}).",
    "Jobs of all others that name it get an older version, or none: container not found.",
    "chmod a+r {path}",
)
NO_ALIAS = Trouble(
    PROBLEM,
    "The alias {name} means {uri}, and there is no such image.",
    "Jobs with --container-name={name} fail: container not found.",
    "slurm-fsx containers import {uri}",
)
NO_INDEX = Trouble(
    NOTE,
    "The index of {folder} is {state}.",
    "A submission asks Python for a container's name instead, which takes some tenths of a second.",
    "slurm-fsx containers index",
    is_safe=True,
)
IMPORT_FAILED = Trouble(
    WARNING,
    "The download of {file} failed: {text}.",
    "Jobs that name it do not find it. See {fsx}/logs/container-downloads, or slurm-fsx containers status. Where "
    "nobody wants it any more: rm {state}.",
    "slurm-fsx containers import {uri}",
)
IMPORT_DENIED = IMPORT_FAILED._replace(
    why="Jobs that name it do not find it. NGC wants two lines in ~/.config/enroot/.credentials: one for nvcr.io, "
    "one for authn.nvidia.com.",
    source="https://github.com/NVIDIA/enroot/issues/161",
)
IMPORT_DIED = IMPORT_FAILED._replace(
    text="The process that was bringing {file} has ended half-way, on {host}.",
    why="The image is not there; the same command goes on where it ended. Where nobody wants it any more: rm {state}.",
)


def _gather(context: Context, facts: Facts) -> Any:
    store = Store(context.config.below_fsx("containers"))
    begun_s = time.monotonic()
    if not os.path.isdir(store.folder):
        return {"images": 0, "looked": 0, "damaged": [], "closed": [], "aliases": [], "index": "missing"}
    listing = list_images(store, context.config, context.now_s)
    catalogue = Catalogue(store.folder)
    unreadable = {each.file for each in listing.rejects if not os.access(store.path(each.file), os.R_OK)}
    damaged = [[each.file, each.reason, ""] for each in listing.rejects if each.file not in unreadable]
    closed = [each for file in sorted(unreadable) for each in _closed(store.path(file))]
    looked = 0
    for image in sorted(listing.images, key=lambda each: -each.modified_s):
        left_s = _LOOK_S - (time.monotonic() - begun_s)
        if left_s <= 0:
            break
        seen = verify(image.stem, store, catalogue, True, lambda _: None, limit_s=left_s)
        looked += 1
        closed += _closed(image.path)
        if seen is not None and seen.problem:
            damaged.append([seen.file, seen.problem, seen.record.uri if seen.record else ""])
    return {
        "images": len(listing.images),
        "looked": looked,
        "damaged": damaged,
        "closed": closed,
        "aliases": list(_dead_aliases(context, catalogue)),
        "index": _index_state(store.folder, context.config.policy),
    }


def _closed(path: str) -> list[list[str]]:
    """Give an image that its owner alone may read, with its mode; one that is a group's was meant for that group."""
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except FileNotFoundError:
        return []
    return [] if mode & (stat.S_IRGRP | stat.S_IROTH) else [[path, f"{mode:04o}"]]


def _dead_aliases(context: Context, catalogue: Catalogue) -> Iterable[list[str]]:
    for name, uri in context.config["containers.aliases"].items():
        try:
            resolve(name, catalogue, context.config)
        except ImageNotFound:
            yield [name, uri]
        except SlurmFsxError:
            continue


def _index_state(folder: str, policy: str) -> str:
    try:
        index = read_index(index_path(folder))
        if index.policy != policy:
            return "of another configuration"
        return "" if index.folder_ns == os.stat(folder).st_mtime_ns else "older than what is there"
    except FileNotFoundError:
        return "missing"
    except SlurmFsxError as error:
        return f"of no use: {error.message}"


def _gather_imports(context: Context, facts: Facts) -> Any:
    store = Store(context.config.below_fsx("containers"))
    return [
        {
            **{"file": each.file, "uri": each.uri, "host": each.host, "phase": each.phase, "text": each.text},
            "state": state_path(store, each.file),
        }
        for each in read_states(store)
        if each.phase in (FAILED, DIED)
        and context.now_s - each.updated_s < _RECENT_S
        and not os.path.exists(store.path(each.file))
    ]


def _judge_images(context: Context, facts: Facts) -> list[Finding]:
    seen = facts["images"]
    folder, fsx = context.config.below_fsx("containers"), context.config["fsx.root"]
    if not seen["images"] and not seen["damaged"] and not seen["closed"]:
        return [NO_IMAGES.found(folder=folder, fsx=fsx)]
    found = [CLOSED.found(path=path, mode=mode) for path, mode in seen["closed"]]
    for file, problem, uri in seen["damaged"]:
        trouble = DAMAGED_IMPORT if uri else DAMAGED
        found.append(trouble.found(path=f"{folder}/{file}", file=file, problem=problem, uri=uri))
    return found


def _judge_names(context: Context, facts: Facts) -> list[Finding]:
    seen = facts["images"]
    found = [NO_ALIAS.found(name=name, uri=uri) for name, uri in seen["aliases"]]
    if seen["index"] and seen["images"]:
        found.append(NO_INDEX.found(folder=context.config.below_fsx("containers"), state=seen["index"]))
    return found


def _judge_imports(context: Context, facts: Facts) -> list[Finding]:
    found = []
    for each in facts["imports"]:
        is_denied = any(word in each["text"] for word in ("401", "403", "credential", "denied", "password"))
        trouble = IMPORT_DIED if each["phase"] == DIED else IMPORT_DENIED if is_denied else IMPORT_FAILED
        text = each["text"].rstrip(".") or "it does not say why"
        found.append(trouble.found(**{**each, "text": text}, fsx=context.config["fsx.root"]))
    return found


PROBES = (
    Probe("images", "{root}/containers", _gather, limit_s=4.0, after=("fsx",)),
    Probe("imports", "{root}/containers", _gather_imports, after=("fsx",)),
)
CHECKS = (
    Check(
        "images",
        "images are there, readable and whole (the newest ones, as far as time allows; containers verify does all)",
        ("images",),
        _judge_images,
        (NO_IMAGES, DAMAGED, DAMAGED_IMPORT, CLOSED),
        is_of_cluster=True,
    ),
    Check(
        "image-names",
        "names find their images, and soon",
        ("images",),
        _judge_names,
        (NO_ALIAS, NO_INDEX),
        is_of_cluster=True,
    ),
    Check(
        "image-imports",
        "the last downloads ended well",
        ("imports",),
        _judge_imports,
        (IMPORT_FAILED, IMPORT_DENIED, IMPORT_DIED),
        is_of_cluster=True,
    ),
)
