"""What files take on disk."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container


def sum_of_files(folder: str, names: Container[str], prefix: str = "") -> int:
    """Give the bytes of a folder's files that have one of these names, or, up to a dot, would have.

    Args:
        folder: It may be missing.
        names: What counts.
        prefix: Files whose names begin with this count as well, where it is not empty.
    """
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.partition(".")[0] in names or (prefix and entry.name.startswith(prefix)):
                    try:
                        total += entry.stat(follow_symlinks=False).st_size
                    except FileNotFoundError:
                        continue
    except FileNotFoundError:
        pass
    return total
