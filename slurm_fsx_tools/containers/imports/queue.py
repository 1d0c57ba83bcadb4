"""Imports several images, some at a time; one that fails keeps none of the others from coming."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from ...errors import Interrupted, SlurmFsxError
from .importing import import_image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..names import ImageName
    from ..store import Store
    from .options import Imported, ImportOptions
    from .state import Progress

ALL, NONE, SOME, INTERRUPTED = 0, 1, 3, Interrupted.exit_code
"""Exit codes: whether all, none or some of the images are there now."""


class Outcome(NamedTuple):
    """What became of one image."""

    name: ImageName
    imported: Imported | None
    error: SlurmFsxError | OSError | None


def import_all(
    names: Sequence[ImageName],
    store: Store,
    options: ImportOptions,
    jobs: int,
    report: Callable[[Progress], None],
) -> list[Outcome]:
    """Import images, at most `jobs` at a time, each one once.

    The calling thread waits, so that it is there for signals: a handler sets `options.stop`.

    Args:
        names: The images.
        store: Where to.
        options: How.
        jobs: How many at a time.
        report: Called from several threads.
    """

    def bring(name: ImageName) -> Outcome:
        try:
            options.stop.check()
            return Outcome(name, import_image(name, store, options, report), None)
        except (SlurmFsxError, OSError) as error:
            return Outcome(name, None, error)

    ended = threading.Event()
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        futures = [pool.submit(bring, name) for name in dict.fromkeys(names)]
        for future in futures:
            while not future.done():
                ended.wait(0.1)  # short waits: Python runs signal handlers between them
        return [future.result() for future in futures]


def exit_code(outcomes: Sequence[Outcome], mistakes: int = 0) -> int:
    """Say whether all, some or none came.

    Args:
        outcomes: Of each image.
        mistakes: How many lines of a list named none.
    """
    if any(isinstance(outcome.error, Interrupted) for outcome in outcomes):
        return INTERRUPTED
    came = sum(outcome.imported is not None for outcome in outcomes)
    if came == len(outcomes) and not mistakes:
        return ALL
    return SOME if came else NONE
