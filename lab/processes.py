"""Which processes are there, for tests that look at what is left of a program."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from pathlib import Path


def working_in(folder: Path) -> list[psutil.Process]:
    """Give the processes whose working folder is this one or below it."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd().startswith(str(folder)):
                found.append(process)
        except psutil.Error:
            continue  # it has ended meanwhile
    return found
