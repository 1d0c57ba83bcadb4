"""What an imported image was made from, and its checksums: one JSON file for each, beside the images.

An image without a record is one that somebody copied into the folder; it is used like any other.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, NamedTuple

from ..errors import SlurmFsxError
from ..files import open_folder, read_trusted, write_atomically

if TYPE_CHECKING:
    from .store import Store

VERSION = 1


class Record(NamedTuple):
    """Where an image came from, and what its file was when it was published."""

    uri: str
    """``docker://REGISTRY/REPOSITORY:TAG``, as it was asked for."""

    digest: str
    """``sha256:HEX`` of the manifest that the registry gave for the URI: of the list, where an image has several."""

    architecture: str
    """As the OCI image specification has it, e.g. ``amd64``."""

    sha256: str
    """64 hexadecimal digits: of the whole file."""

    size_bytes: int
    modified_ns: int
    imported_s: float
    """When, in seconds since 1970."""

    importer: str
    """What made the file: ``enroot`` or ``skopeo``."""


def read_record(store: Store, file: str) -> Record | None:
    """Give an image's record; None where there is none that the store's owner wrote and this version understands."""
    try:
        document = json.loads(read_trusted(_path(store, file)))
        if document.pop("version") != VERSION:
            return None
        return Record(**document)
    except (OSError, SlurmFsxError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_record(store: Store, file: str, record: Record) -> None:
    """Write an image's record; its folder is there already.

    Raises:
        OSError: it cannot be written.
    """
    write_atomically(_path(store, file), json.dumps({"version": VERSION, **record._asdict()}, indent=1).encode())


def remove_record(store: Store, file: str) -> None:
    """Forget an image that is gone.

    Raises:
        OSError: the record cannot be removed.
        UntrustedFile: somebody else could write where it is.
    """
    try:
        state_fd = open_folder(store.state)
    except FileNotFoundError:
        return
    try:
        folder_fd = open_folder(os.path.basename(store.records), state_fd)
    except FileNotFoundError:
        return
    finally:
        os.close(state_fd)
    try:
        os.unlink(os.path.basename(_path(store, file)), dir_fd=folder_fd)
    except FileNotFoundError:
        return
    finally:
        os.close(folder_fd)


def describes(record: Record, status: os.stat_result) -> bool:
    """Whether a file is still as it was published, as far as size and time tell."""
    return (record.size_bytes, record.modified_ns) == (status.st_size, status.st_mtime_ns)


def _path(store: Store, file: str) -> str:
    return f"{store.records}/{file}.json"
