"""System calls that name a path below a folder, counted in what strace printed."""

from __future__ import annotations

import os
import re

STRACE = ("strace", "-f", "-qq", "-y", "-e", "trace=%file")

_PATH = re.compile(r'\w+\((?:(?:AT_FDCWD|\d+)<(?P<folder>[^>]*)>, )?"(?P<path>[^"]+)"')


def count_below(output: str, folder: str) -> int:
    """Count the calls on a folder and what is below it.

    A path may be relative to an opened folder; a call that a second process interrupts is counted where it begins.

    Raises:
        ValueError: nothing was traced, which must not pass for no calls.
    """
    calls = [match for match in map(_PATH.search, output.splitlines()) if match]
    if not calls:
        raise ValueError(f"strace saw no call at all: {output.strip()[-500:]}")
    paths = [os.path.join(call["folder"] or "/", call["path"]) for call in calls]
    return sum(path == folder or path.startswith(f"{folder}/") for path in paths)
