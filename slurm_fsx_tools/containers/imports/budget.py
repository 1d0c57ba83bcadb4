"""How much the whole cluster asks of one registry: so many images at a time, and nothing while it wants a rest."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from ...errors import SlurmFsxError
from ...files import read_trusted, write_atomically
from ...shared_lock import Candidate, jittered
from .registry import RETRY_AFTER_LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ...programs import StopSign
    from ...shared_lock import SharedLock
    from ..store import Store

_POLL_S = 1.0


class RegistryBudget(NamedTuple):
    """The slots of a registry, which are locks in the store, and its pause, which is a file there."""

    store: Store
    registry: str
    slots: int
    stop: StopSign
    other_stores: tuple[Store, ...] = ()
    """Stores whose pauses count as well: the catalogue's, for a user's own imports."""

    clock: Callable[[], float] = time.time

    def pause(self, seconds: float) -> None:
        """Have every importer of the cluster leave the registry alone for so long."""
        until_s = self.clock() + min(seconds, RETRY_AFTER_LIMIT_S)
        if until_s > self.paused_until_s():
            write_atomically(self._pause_file(self.store), json.dumps({"not_before_s": until_s}).encode())

    def paused_until_s(self) -> float:
        """Give when the registry may be asked again, in seconds since 1970; the past if it may be now."""
        now_s = self.clock()
        until_s = 0.0
        for store in (self.store, *self.other_stores):
            try:
                told_s = float(json.loads(read_trusted(self._pause_file(store)))["not_before_s"])
            except (OSError, SlurmFsxError, ValueError, KeyError, TypeError):
                continue
            # A node whose clock is wrong must not stop the cluster for years.
            until_s = max(until_s, min(told_s, now_s + RETRY_AFTER_LIMIT_S))
        return until_s

    def wait_for_pause(self, on_wait: Callable[[str], None]) -> None:
        """Wait until the registry may be asked again."""
        told = 0.0
        while True:
            until_s = self.paused_until_s()
            left_s = until_s - self.clock()
            if left_s <= 0:
                return
            if until_s != told:
                told = until_s
                on_wait(f"{self.registry} wants to be left alone for {left_s:.0f} s")
            self.stop.sleep(min(left_s, jittered(_POLL_S)))

    @contextmanager
    def slot(self, on_wait: Callable[[str], None]) -> Iterator[None]:
        """Take one of the slots for as long as the block runs, waiting for it, and for the end of a pause."""
        lock = self._take_slot(on_wait)
        with lock:
            self.wait_for_pause(on_wait)
            yield

    def _take_slot(self, on_wait: Callable[[str], None]) -> SharedLock:
        candidates = [
            Candidate(f"{self.store.locks}/registry-{self.registry}-{number}") for number in range(self.slots)
        ]
        told = False
        try:
            while True:
                for candidate in candidates:
                    lock = candidate.try_hold()
                    if lock is not None:
                        return lock
                if not told:
                    told = True
                    on_wait(f"the cluster takes {self.slots} images of {self.registry} at a time: waiting for a turn")
                self.stop.sleep(jittered(_POLL_S))
        finally:
            for candidate in candidates:
                candidate.__exit__()

    def _pause_file(self, store: Store) -> str:
        return f"{store.registries}/{self.registry}.json"
