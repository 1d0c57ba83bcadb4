"""How far each import is, in a file that every host can read."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, NamedTuple

from ...errors import SlurmFsxError
from ...files import read_trusted, remove, write_atomically
from ...shared_lock import read_owner, try_hold

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..store import Store

CHECKING, DOWNLOADING, UNPACKING, BUILDING, VERIFYING, WAITING = _UNDER_WAY = (
    "checking",
    "downloading",
    "unpacking",
    "building",
    "verifying",
    "waiting",
)
DONE, UNCHANGED, KEPT, FAILED, DIED = "done", "unchanged", "kept", "failed", "died"
_EXPLAINED = (KEPT, FAILED)
SUFFIX = ".json"
WRITE_EVERY_S = 1.0


class Progress(NamedTuple):
    """What an import does now."""

    file: str
    """The image's, e.g. ``nvcr.io_nvidia_pytorch-24.01-py3.sqsh``."""

    phase: str
    done_bytes: int = 0
    total_bytes: int = 0
    """0 where nobody knows."""

    text: str = ""
    """What a reader should know besides; empty if nothing is new."""


class ImportState(NamedTuple):
    """What is known of the last import of an image."""

    file: str
    uri: str
    host: str
    pid: int
    phase: str
    done_bytes: int
    total_bytes: int
    started_s: float
    """Seconds since 1970, like `updated_s`, by the importing host's clock."""

    updated_s: float
    text: str

    @property
    def is_under_way(self) -> bool:
        return self.phase in _UNDER_WAY


class StateFile:
    """Writes an import's state: each new phase at once, what is between about once a second.

    Args:
        store: Where.
        file: The image's.
        uri: What it is imported from.
        report: Told of each progress, too.
        clock: Seconds since 1970.
    """

    def __init__(
        self, store: Store, file: str, uri: str, report: Callable[[Progress], None], clock: Callable[[], float]
    ) -> None:
        self._path = state_path(store, file)
        self._report = report
        self._clock = clock
        self._state = ImportState(file, uri, os.uname().nodename, os.getpid(), "", 0, 0, clock(), 0.0, "")

    def tell(self, progress: Progress) -> None:
        """Write and report how far the import is. A full disk does not end it here."""
        self._report(progress)
        now_s = self._clock()
        last = self._state
        # What programs say while all goes well is for the log.
        text = progress.text if progress.phase in (WAITING, *_EXPLAINED) else ""
        self._state = last._replace(
            phase=progress.phase,
            done_bytes=progress.done_bytes,
            total_bytes=progress.total_bytes,
            text=text,
        )
        if (progress.phase, text) == (last.phase, last.text) and now_s - last.updated_s < WRITE_EVERY_S:
            return
        self._state = self._state._replace(updated_s=now_s)
        try:
            write_atomically(self._path, json.dumps(self._state._asdict()).encode())
        except OSError:
            pass  # nobody's image depends on it


def state_path(store: Store, file: str) -> str:
    """Give the file that tells of an image's last import."""
    return f"{store.imports}/{file}{SUFFIX}"


def read_states(store: Store) -> list[ImportState]:
    """Give the last import of each image, by the image's name; one whose owner died is shown so.

    Raises:
        OSError: the folder cannot be listed, though it is there.
    """
    try:
        names = sorted(os.listdir(store.imports))
    except FileNotFoundError:
        return []
    states = [
        _read(store, name[: -len(SUFFIX)]) for name in names if name.endswith(SUFFIX) and not name.startswith(".")
    ]
    return [state for state in states if state is not None]


def _read(store: Store, file: str) -> ImportState | None:
    try:
        state = ImportState(**json.loads(read_trusted(state_path(store, file))))
    except (OSError, SlurmFsxError, ValueError, TypeError):
        return None
    if state.is_under_way and not _has_owner(store, file):
        again = _read_again(store, file)
        # It may have ended between the two looks.
        if again == state:
            return state._replace(phase=DIED, text="its process ended: the same command goes on")
        return again
    return state


def _read_again(store: Store, file: str) -> ImportState | None:
    try:
        return ImportState(**json.loads(read_trusted(state_path(store, file))))
    except (OSError, SlurmFsxError, ValueError, TypeError):
        return None


def _has_owner(store: Store, file: str) -> bool:
    """Whether somebody holds the image's lock."""
    path = store.lock(file)
    try:
        if read_owner(path) is None:
            return False
        lock = try_hold(path)
    except FileNotFoundError:
        return False  # no folder of locks: nobody ever held it
    except (OSError, SlurmFsxError):
        return True  # we may not take it: what it says counts
    if lock is None:
        return True
    lock.release()
    return False


def forget_state(store: Store, file: str) -> None:
    """Remove what is known of the last import of an image that is gone; its lock is ours."""
    remove(state_path(store, file))
