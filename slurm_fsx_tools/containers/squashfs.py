"""What the first bytes of a squashfs image say, and whether the rest is there."""

from __future__ import annotations

SUPERBLOCK_BYTES = 96
_MAGIC = b"hsqs"
_MAJOR = slice(28, 30)
_BYTES_USED = slice(40, 48)
_READABLE_VERSION = 4


def why_unusable(superblock: bytes, size_bytes: int) -> str:
    """Say why a file is no image, from its first bytes; empty if it may be one.

    A squashfs image begins with its superblock, little-endian: magic ``hsqs`` at 0, version at 28 (major) and 30
    (minor), 64 bits at 40 with the bytes that the file system takes (``bytes_used``); the file is padded beyond that.
    mksquashfs writes it last. Source: Linux, fs/squashfs/squashfs_fs.h, struct squashfs_super_block.

    Args:
        superblock: The file's first `SUPERBLOCK_BYTES`, or fewer where it has no more.
        size_bytes: The file's size.
    """
    if not any(superblock):
        return "not complete: it is empty, or begins with zeros"
    if not superblock.startswith(_MAGIC):
        return "no squashfs image"
    if len(superblock) < SUPERBLOCK_BYTES:
        return f"not complete: only {size_bytes} bytes are there"
    version = int.from_bytes(superblock[_MAJOR], "little")
    if version != _READABLE_VERSION:
        return f"squashfs version {version}, and only version {_READABLE_VERSION} can be mounted"
    bytes_used = int.from_bytes(superblock[_BYTES_USED], "little")
    if bytes_used < SUPERBLOCK_BYTES:
        return "a superblock that makes no sense"
    if bytes_used > size_bytes:
        return f"not complete: {size_bytes} of {bytes_used} bytes are there"
    return ""
