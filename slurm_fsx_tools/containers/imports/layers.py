"""The layers that were downloaded: kept for a day after their last use, for whoever goes on, and for other tags."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ...files import remove

if TYPE_CHECKING:
    from ..store import Store
    from .manifests import Manifest

KEPT_S = 24 * 3600.0
"""An import that takes longer than this has its layers removed under it, and downloads them again."""


def missing_bytes(store: Store, manifest: Manifest) -> int:
    """Give how many bytes of an image are to be downloaded still."""
    missing = 0
    for blob in manifest.blobs:
        try:
            here = os.stat(f"{store.layers}/sha256/{blob.digest.partition(':')[2]}", follow_symlinks=False).st_size
        except OSError:
            here = 0
        missing += 0 if here == blob.size_bytes else blob.size_bytes
    return missing


def forget_old_layers(store: Store, now_s: float) -> int:
    """Remove the layers that no import has used for a day; give how many bytes that freed.

    It goes by the handles of folders and follows no link.
    """
    freed_bytes = 0
    if not os.path.isdir(store.layers):
        return 0
    for _folder, _folders, files, folder_fd in os.fwalk(store.layers, follow_symlinks=False):
        for file in files:
            try:
                status = os.stat(file, dir_fd=folder_fd, follow_symlinks=False)
                if now_s - status.st_mtime > KEPT_S and remove(file, dir_fd=folder_fd):
                    freed_bytes += status.st_size
            except OSError:
                continue  # somebody else's import was faster
    return freed_bytes
