"""Steps about folders and symbolic links."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import UntrustedFile
from . import placing
from .step import KEPT, Change

if TYPE_CHECKING:
    from .record import Record

_RAW = 0o700
"""Permissions of a folder that was just made, before its owner and its own ones."""


@dataclass(frozen=True)
class Folder:
    """A folder with its owner and permissions; what is in it is not looked at."""

    path: str
    mode: int = 0o755
    owner: str = "root"
    group: str = "root"
    accepts_any: bool = False
    """Whether one that is there already is right, whatever its owner and permissions are."""

    kind = "folder"

    @property
    def name(self) -> str:
        return f"folder {self.path}"

    def check(self, record: Record) -> Change | None:
        path = record.below(self.path)
        if self.accepts_any and os.path.isdir(path):
            return None
        if os.path.islink(path):
            return Change(f"{self.path} is a link to {os.readlink(path)}", verdict=KEPT)
        present = _state(path)
        if present is None:
            return Change(f"make {self.path} ({self.mode:04o}, {self.owner}:{self.group})")
        wanted = [self.mode, *record.owners.ids(self.owner, self.group)]
        if present == wanted:
            return None
        summary = f"{_describe(present)} instead of {_describe(wanted)}"
        if present in _ours(record.get(self.name)):
            return Change(f"change {self.path}: {summary}")
        return Change(f"{self.path} is somebody else's: {summary}", verdict=KEPT)

    def apply(self, record: Record) -> None:
        path = record.below(self.path)
        ids = record.owners.ids(self.owner, self.group)
        wanted = [self.mode, *ids]
        present = _state(path)
        old = record.get(self.name) or {}
        is_foreign = present is not None and present not in _ours(old)
        entry: dict[str, Any] = {
            "kind": self.kind,
            "path": self.path,
            "ours": [wanted],
            "made": old.get("made", present is None),
            "before": present if is_foreign else old.get("before"),
        }
        between = [wanted, [_RAW, os.geteuid(), os.getegid()], [_RAW, *ids], *_ours(old)]
        record.begin(self.name, {**entry, "ours": between})
        placing.check_folders(os.path.dirname(path))
        if present is None:
            os.mkdir(path, _RAW)
        _change(path, self.mode, ids)
        record.done(self.name, entry)

    def undo(self, record: Record) -> str:
        entry = record.get(self.name) or {}
        path = record.below(self.path)
        kept = ""
        present = _state(path) if os.path.lexists(path) else None
        if present is not None:
            before = entry.get("before")
            if entry.get("made"):
                try:
                    os.rmdir(path)
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY):
                        raise
                    kept = f"{self.path} is not empty"
            elif before and present in _ours(entry):
                _change(path, before[0], (before[1], before[2]))
        record.forget(self.name)
        return kept


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    path: str
    target: str

    kind = "link"

    @property
    def name(self) -> str:
        return f"link {self.path}"

    def check(self, record: Record) -> Change | None:
        path = record.below(self.path)
        if not os.path.lexists(path):
            return Change(f"link {self.path} to {self.target}")
        if not os.path.islink(path):
            return Change(f"{self.path} is no link of ours", verdict=KEPT)
        target = os.readlink(path)
        if target == self.target:
            return None
        verdict = {} if target in _ours(record.get(self.name)) else {"verdict": KEPT}
        return Change(f"link {self.path} to {self.target} instead of {target}", **verdict)

    def apply(self, record: Record) -> None:
        path = record.below(self.path)
        old = record.get(self.name) or {}
        before = old.get("before", "")
        if os.path.lexists(path):
            if not os.path.islink(path):
                raise UntrustedFile(f"{path} is no symbolic link", hint="move it away")
            if os.readlink(path) not in _ours(old):
                before = os.readlink(path)
        entry = {"kind": self.kind, "path": self.path, "ours": [self.target], "before": before}
        staged = placing.staged_name(path)
        record.begin(self.name, {**entry, "ours": [self.target, *_ours(old)], "staged": staged})
        placing.place_link(path, staged, self.target)
        record.done(self.name, entry)

    def undo(self, record: Record) -> str:
        entry = record.get(self.name) or {}
        path = record.below(self.path)
        kept = ""
        if os.path.lexists(path):
            if not os.path.islink(path) or os.readlink(path) not in _ours(entry):
                kept = f"{self.path} is changed by hand since"
            elif entry.get("before"):
                placing.place_link(path, placing.staged_name(path), entry["before"])
            else:
                os.unlink(path)
        record.forget(self.name)
        return kept


def _state(path: str) -> list[int] | None:
    """Give permissions and owner of a folder; None where nothing is.

    Raises:
        UntrustedFile: something else has the name, e.g. a link to a folder.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    if not stat.S_ISDIR(status.st_mode):
        raise UntrustedFile(f"{path} is no folder", hint="move it away")
    return [stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid]


def _change(path: str, mode: int, ids: tuple[int, int]) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchown(fd, *ids)
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def _ours(entry: dict[str, Any] | None) -> list[Any]:
    return list((entry or {}).get("ours", []))


def _describe(state: list[int]) -> str:
    return f"{state[0]:04o} {state[1]}:{state[2]}"
