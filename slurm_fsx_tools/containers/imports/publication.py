"""How an image becomes visible, and what stands under its name before."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from ...errors import ImportFailed
from ...files import publish, read_trusted, remove, write_atomically
from ...folders import remove_tree
from ..records import Record, describes, read_record, write_record
from ..squashfs import SUPERBLOCK_BYTES, why_unusable

if TYPE_CHECKING:
    from ..store import Store


class Here(NamedTuple):
    """What stands under an image's name now."""

    status: os.stat_result | None
    record: Record | None
    broken: str
    """Why it is no image; empty if it may be one."""

    kept: str
    """Why it is left as it is; empty if an import may replace it."""

    def is_of(self, digest: str, architecture: str) -> bool:
        """Whether it was imported from this digest, and is unchanged since."""
        return self.record is not None and (self.record.digest, self.record.architecture) == (digest, architecture)


def look_at(store: Store, file: str) -> Here:
    """See what stands under an image's name, following no link.

    Raises:
        ImportFailed: something that is neither file nor link.
    """
    path = store.path(file)
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return Here(None, None, "", "")
    if stat.S_ISLNK(status.st_mode):
        return Here(status, None, "", "it is a link that somebody made: --force replaces it")
    if not stat.S_ISREG(status.st_mode):
        raise ImportFailed(f"{path} is no file", hint="remove it")
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        broken = why_unusable(os.pread(fd, SUPERBLOCK_BYTES, 0), os.fstat(fd).st_size)
    finally:
        os.close(fd)
    if broken:
        return Here(status, None, broken, "")
    record = read_record(store, file)
    if record is None:
        return Here(status, None, "", "it is there, and was not imported by this: --force replaces it")
    if not describes(record, status):
        return Here(status, None, "", "it was changed since it was imported: --force replaces it")
    return Here(status, record, "", "")


def publish_image(store: Store, file: str, staged: str, record: Record) -> None:
    """Make an image visible, with its record.

    Where this process is killed in between, `clear_staging` does the rest.
    """
    write_atomically(_intent(store, file), json.dumps(record._asdict()).encode())
    publish(staged, store.path(file))
    _finish_publication(store, file)


def clear_staging(store: Store, file: str) -> None:
    """Finish or remove what a dead process left of an image's import.

    The image's lock is ours, so nobody else works on it.
    """
    _finish_publication(store, file)
    for entry in os.listdir(store.staging):
        if entry.startswith(f"{file}."):
            remove_tree(f"{store.staging}/{entry}")


def _finish_publication(store: Store, file: str) -> None:
    """Write the record of an image that was made visible."""
    intent = _intent(store, file)
    try:
        record = Record(**json.loads(read_trusted(intent)))
        if describes(record, os.lstat(store.path(file))):
            write_record(store, file, record)
    except (FileNotFoundError, ValueError, TypeError):
        pass
    remove(intent)


def _intent(store: Store, file: str) -> str:
    return f"{store.staging}/{file}.record"
