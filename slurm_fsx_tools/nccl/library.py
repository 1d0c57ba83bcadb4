"""What an NCCL library says of itself, asked in a child: loading one runs its code, and may hang or crash."""

from __future__ import annotations

import subprocess
import sys

from ..errors import SlurmFsxError

TIMEOUT_S = 30.0

_ASK = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
number = ctypes.c_int()
code = library.ncclGetVersion(ctypes.byref(number))
print(number.value if code == 0 else f"error {code}")
"""


class LibraryUnusable(SlurmFsxError):
    """An NCCL library that cannot be loaded, or does not say its version."""


def library_version(path: str, timeout_s: float = TIMEOUT_S) -> str:
    """Give the version that a library says it is, e.g. ``2.28.7``.

    Args:
        path: ``…/libnccl.so.2``.
        timeout_s: How long it may take; loading one from a cold file system takes seconds.

    Raises:
        LibraryUnusable: it cannot be loaded, crashes, hangs, or gives none.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _ASK, path],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        raise LibraryUnusable(f"{path} did not load within {timeout_s:g} s", hint="see: ldd " + path) from None
    said = done.stdout.strip()
    if done.returncode or not said.isdigit():
        reason = said or (done.stderr.strip().splitlines() or [f"the loader ended with {done.returncode}"])[-1]
        raise LibraryUnusable(f"{path} does not say its version: {reason[:300]}", hint="see: ldd " + path)
    return version_text(int(said))


def version_text(number: int) -> str:
    """Give a version number of ncclGetVersion as text.

    Source: nccl.h, NCCL_VERSION: thousands count up to 2.8, tens of thousands from 2.9 on.
    """
    if number < 10000:
        return f"{number // 1000}.{number % 1000 // 100}.{number % 100}"
    return f"{number // 10000}.{number % 10000 // 100}.{number % 100}"
