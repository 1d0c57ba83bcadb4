"""How images are packed: options of mksquashfs."""

from __future__ import annotations

import subprocess
from functools import lru_cache

from ...programs import find_program

BLOCK_BYTES = 128 << 10
"""squashfuse reads whole blocks: larger ones pack a little better, and make starting from many small files slower."""


@lru_cache(maxsize=1)
def options() -> tuple[str, ...]:
    """Give what every image is packed with.

    zstd, where this mksquashfs has it: it unpacks several times faster than gzip. No extended attributes: none of an
    image's should mean anything to root's overlay mount.
    """
    program = find_program("mksquashfs") or "mksquashfs"
    said = subprocess.run([program, "-help"], check=False, capture_output=True, text=True)
    compressors = (said.stdout + said.stderr).rpartition("Compressors available")[2]
    compression = "zstd" if "zstd" in compressors else "gzip"
    return ("-comp", compression, "-b", str(BLOCK_BYTES), "-no-xattrs")
