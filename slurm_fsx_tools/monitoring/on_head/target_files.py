"""The folder of target files as one reader keeps it: only what changed since it was last seen is read again."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import TYPE_CHECKING, Any

from ...errors import SlurmFsxError
from ...files import read_trusted, remove, write_atomically
from ..targets import FOLDER, SUFFIX, Target, format_targets, make_folder, parse_targets, target_path

if TYPE_CHECKING:
    from ..targets import Targets

LEFTOVER_S = 60.0
"""A temporary file this old, by any clock, belongs to nobody who still writes it."""

VERSION = 1
_MEMORY_LIMIT_BYTES = 256 << 20
_TEMPORARY = re.compile(r"\..+\.json\.[^/]+\.\d+")
"""Source: `files.write_atomically`."""

_Identity = tuple[int, int, int, int]


class TargetFiles:
    """The files below a shared file system's root, as they were at the last look.

    Attributes:
        content: What each file says, by node name; None where it is broken, or may be another user's.
    """

    def __init__(self, fsx_root: str) -> None:
        self._root = fsx_root
        self._folder = os.path.join(fsx_root, *FOLDER)
        self._seen: dict[str, _Identity] = {}
        self._leftovers: dict[str, _Identity] = {}
        self._old_leftovers: list[str] = []
        self.content: dict[str, Targets | None] = {}
        self.has_changed = False
        """Whether there is anything to remember since the memory was read."""

    def look(self) -> None:
        """See which files are there, and read those that changed.

        A file is the same where its size, inode, and times of content and of owner and mode are: one whose mode lets
        others write has changed as well.

        Raises:
            SharedFsUnavailable: nothing is mounted.
            OSError: the folder cannot be read.
        """
        self.take_over(self.find_changes())

    def find_changes(self) -> dict[str, Any]:
        """Find what `look` has to take over, as values that json can carry: who must not hang looks in a child.

        Raises:
            SharedFsUnavailable, OSError: as for `look`.
        """
        seen: dict[str, _Identity] = {}
        leftovers: dict[str, _Identity] = {}
        try:
            entries = os.scandir(self._folder)
        except FileNotFoundError:
            make_folder(self._root)
            entries = os.scandir(self._folder)
        with entries:
            for entry in entries:
                is_temporary = entry.name.startswith(".")
                if not (_TEMPORARY.fullmatch(entry.name) if is_temporary else entry.name.endswith(SUFFIX)):
                    continue
                try:
                    identity = _identity(entry.stat(follow_symlinks=False))
                except FileNotFoundError:
                    continue
                if is_temporary:
                    leftovers[entry.name] = identity
                else:
                    seen[entry.name[: -len(SUFFIX)]] = identity
        changed = {name: identity for name, identity in seen.items() if self._seen.get(name) != identity}
        return {
            "files": {name: [identity, self._read(name)] for name, identity in changed.items()},
            "gone": [name for name in self._seen if name not in seen],
            "leftovers": leftovers,
        }

    def take_over(self, changes: dict[str, Any]) -> None:
        """Take over what `find_changes` has found, here or in a copy of this process."""
        seen, content = _restore_files(changes["files"])
        leftovers = _restore_identities(changes["leftovers"])
        self._old_leftovers = [name for name, identity in leftovers.items() if self._leftovers.get(name) == identity]
        self.has_changed = self.has_changed or bool(seen or changes["gone"] or leftovers != self._leftovers)
        for name in changes["gone"]:
            del self._seen[name], self.content[name]
        self._seen.update(seen)
        self.content.update(content)
        self._leftovers = leftovers

    def write(self, name: str, targets: Targets) -> None:
        """Replace a node's file.

        Raises:
            OSError: it cannot be written.
        """
        write_atomically(self._path(name), format_targets(targets))
        self._forget(name)  # somebody else may have written since: the next look tells

    def remove(self, name: str) -> bool:
        """Remove a node's file, unless somebody has written it since the last look; say whether it was removed.

        Raises:
            OSError: it cannot be removed.
        """
        path = self._path(name)
        try:
            if _identity(os.lstat(path)) != self._seen[name]:
                return False
        except FileNotFoundError:
            return False
        self._forget(name)
        return remove(path)

    def remove_leftovers(self, now_s: float) -> int:
        """Remove temporary files of writers that were killed; give how many there were.

        One is taken for such where it was there, the same, at the look before, too, and nobody's clock calls it new.
        """
        removed = 0
        for name in self._old_leftovers:
            if abs(now_s - self._leftovers[name][1] / 1e9) > LEFTOVER_S:
                try:
                    removed += remove(os.path.join(self._folder, name))
                except OSError:
                    pass  # it hurts nobody
                self._leftovers.pop(name)
                self.has_changed = True
        self._old_leftovers = []
        return removed

    def memory(self) -> dict[str, Any]:
        """Give what a later process needs, as values that json can carry."""
        return {
            "version": VERSION,
            "folder": self._folder,
            "leftovers": self._leftovers,
            "files": {name: [identity, self.content[name]] for name, identity in self._seen.items()},
        }

    def recall(self, memory: dict[str, Any]) -> None:
        """Take over what an earlier process has seen; a memory that is not understood is none."""
        try:
            if (memory["version"], memory["folder"]) != (VERSION, self._folder):
                return
            seen, content = _restore_files(memory["files"])
            leftovers = _restore_identities(memory["leftovers"])
        except (LookupError, TypeError, ValueError, AttributeError):
            return
        self._seen, self._leftovers, self.content = seen, leftovers, content
        self.has_changed = False

    def _forget(self, name: str) -> None:
        self._seen.pop(name, None)
        self.content.pop(name, None)
        self.has_changed = True

    def _read(self, name: str) -> Targets | None:
        try:
            return parse_targets(read_trusted(self._path(name)), name)
        except (OSError, SlurmFsxError):
            return None

    def _path(self, name: str) -> str:
        return target_path(self._root, name)


def read_memory(path: str) -> dict[str, Any]:
    """Read what was seen before; nothing where there is no such file, or it is broken."""
    try:
        memory = json.loads(read_trusted(path, _MEMORY_LIMIT_BYTES))
    except (OSError, SlurmFsxError, ValueError):
        return {}
    return memory if isinstance(memory, dict) else {}


def _restore_files(files: dict[str, Any]) -> tuple[dict[str, _Identity], dict[str, Targets | None]]:
    content = {name: _restore(content) for name, (_, content) in files.items()}
    return _restore_identities({name: identity for name, (identity, _) in files.items()}), content


def _restore_identities(found: dict[str, Any]) -> dict[str, _Identity]:
    return {name: (identity[0], identity[1], identity[2], identity[3]) for name, identity in found.items()}


def _restore(content: dict[str, Any] | None) -> Targets | None:
    return content and {name: Target(address, _share(labels)) for name, (address, labels) in content.items()}


def _share(labels: dict[str, str]) -> dict[str, str]:
    """Give labels whose texts are the same objects wherever they are alike: ten thousand nodes say much the same."""
    return {sys.intern(name): sys.intern(value) for name, value in labels.items()}


def _identity(status: os.stat_result) -> _Identity:
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
