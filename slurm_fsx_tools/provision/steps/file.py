"""Steps about the content of files: a whole file of ours, and a line of ours in somebody else's."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ...errors import StepFailed, UntrustedFile
from ...files import move, read_all, remove
from . import placing
from .step import KEPT, Change

if TYPE_CHECKING:
    from .record import Record

_LIMIT_BYTES = 16 << 20


class _Found(NamedTuple):
    """What is at a path."""

    data: bytes
    digest: str
    mode: int
    ids: tuple[int, int]

    @property
    def state(self) -> list[Any]:
        return [self.digest, self.mode, *self.ids]


@dataclass(frozen=True)
class File:
    """A file with our content."""

    path: str
    content: str | bytes
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"
    recognises: str = ""
    """A text that only an older release of ours has written: a file with it is replaced, and a backup is made."""

    by_pattern: bool = False
    """Whether all files of its folder are read, so that a backup must not be one of them."""

    is_start: bool = False
    """Whether it is but a start, which others go on with: what is there is never looked into."""

    kind = "file"

    @property
    def name(self) -> str:
        return f"file {self.path}"

    @property
    def data(self) -> bytes:
        return self.content.encode() if isinstance(self.content, str) else self.content

    def check(self, record: Record) -> Change | None:
        path = record.below(self.path)
        if os.path.islink(path):
            return Change(f"{self.path} is a link to {os.readlink(path)}", verdict=KEPT)
        found = _look(path)
        if found is None:
            return Change(f"write {self.path}", _diff(b"", self.data, "/dev/null", self.path))
        uid, gid = self._ids(record, found.ids)
        if self.is_start:
            return None
        ours = record.ours(self.name)
        if found.state == [_digest(self.data), self.mode, uid, gid]:
            if record.get(self.name) and found.state not in ours:
                return Change(f"take note of {self.path}, which is as it should be")
            return None
        diff = _diff(found.data, self.data, self.path, self.path)
        what = _differences(found, self.data, self.mode, (uid, gid))
        if found.state in ours:
            return Change(f"update {self.path} ({what})", diff)
        if not ours and self._is_older(found):
            return Change(f"replace {self.path}, from an older release, with a backup", diff)
        whose = "changed by hand since" if ours else "not written by us"
        return Change(f"{self.path} is {whose} ({what})", diff, KEPT)

    def apply(self, record: Record) -> None:
        path = record.below(self.path)
        ids = record.owners.ids(self.owner, self.group)
        found = None if os.path.islink(path) else _look(path)
        old = record.get(self.name) or {}
        wanted = [_digest(self.data), self.mode, *ids]
        is_known = found is not None and (found.state == wanted or found.state in record.ours(self.name))
        is_foreign = os.path.lexists(path) and not is_known
        entry: dict[str, Any] = {
            "kind": self.kind,
            "path": self.path,
            "ours": [wanted],
            "backup": old.get("backup", ""),
        }
        if is_foreign and not (entry["backup"] and _same(path, entry["backup"])):
            entry["backup"] = placing.backup_name(path, self.by_pattern)
        staged = placing.staged_name(path)
        record.begin(self.name, {**entry, "ours": [*entry["ours"], *_ours(old)], "staged": staged})
        if is_foreign:
            _copy(path, entry["backup"], staged, found)
        placing.place(path, staged, self.data, self.mode, ids)
        record.done(self.name, entry)

    def undo(self, record: Record) -> str:
        if record.get(self.name) and record.hand_over(self.name):
            return ""
        entry = record.get(self.name) or {}
        path = record.below(self.path)
        backup = entry.get("backup", "")
        found = _look(path) if not os.path.islink(path) else None
        kept = ""
        if os.path.lexists(path):
            if found is None or found.digest not in [state[0] for state in record.ours(self.name)]:
                kept = f"{self.path} is changed by hand since"
            elif backup and os.path.lexists(backup):
                move(backup, path)
            else:
                remove(path)
        if backup and os.path.lexists(backup):
            if _same(path, backup):
                remove(backup)
            else:
                kept = f"{kept or self.path}; what was there before us is {backup}"
        record.forget(self.name)
        return kept

    def _ids(self, record: Record, present: tuple[int, int]) -> tuple[int, int]:
        """Give the owner's numbers; those of the file that is there, as long as the owner is unknown."""
        try:
            return record.owners.ids(self.owner, self.group)
        except StepFailed:
            return present  # the package that makes the user comes first

    def _is_older(self, found: _Found) -> bool:
        return bool(self.recognises) and self.recognises.encode() in found.data


@dataclass(frozen=True)
class Line:
    """A line in a file that others write, too; with the file's own permissions, and made where it is missing."""

    path: str
    line: str
    before: str = ""
    """Regular expression of lines that it must stand before; at the end of the file without."""

    after: str = ""
    """Regular expression of lines that it must stand after."""

    replaces: str = ""
    """Regular expression of lines whose place it takes: what an older release has written, or another value."""

    backup: bool = False
    """Whether the file as it was is kept beside it."""

    mode: int = 0o644
    """Of a file that is made."""

    key: str = ""
    """What the record knows it by, for a line whose text may change: by its text without."""

    kind = "line"

    @property
    def name(self) -> str:
        return f"line {self.path}: {self.key or self.line}"

    def check(self, record: Record) -> Change | None:
        found = _look(os.path.realpath(record.below(self.path)))
        text = _text(found)
        entry = record.get(self.name) or {}
        new = self.with_line(text, entry)
        if new == text and found is not None:
            return None
        diff = _diff(text.encode(errors="replace"), new.encode(errors="replace"), self.path, self.path)
        if entry and not entry.get("begun") and (entry["line"] not in _lines(text) or entry["line"] == self.line):
            return Change(f"{self.path} is changed by hand since (our line is gone, or elsewhere)", diff, KEPT)
        return Change(f"{'add to' if found else 'write'} {self.path}: {self.line}", diff)

    def apply(self, record: Record) -> None:
        path = os.path.realpath(record.below(self.path))
        found = _look(path)
        text = _text(found)
        old = record.get(self.name) or {}
        entry: dict[str, Any] = {
            "kind": self.kind,
            "path": self.path,
            "line": self.line,
            "key": self.key,
            "made": old.get("made", found is None),
            "replaced": old.get("replaced") or [line for line in _lines(text) if self._is_replaced(line)],
            "unterminated": old.get("unterminated", bool(text) and text[-1] != "\n"),
            "backup": old.get("backup", ""),
        }
        if self.backup and found is not None and not (entry["backup"] and os.path.lexists(entry["backup"])):
            entry["backup"] = placing.backup_name(path)
        staged = placing.staged_name(path)
        record.begin(self.name, {**entry, "old": old.get("line", ""), "staged": staged})
        if entry["backup"] and not os.path.lexists(entry["backup"]):
            _copy(path, entry["backup"], staged, found)
        _rewrite(path, staged, self.with_line(text, old), found, self.mode, record)
        record.done(self.name, entry)

    def undo(self, record: Record) -> str:
        entry = record.get(self.name) or {}
        path = os.path.realpath(record.below(self.path))
        found = _look(path)
        backup = entry.get("backup", "")
        kept = ""
        if found is not None:
            lines = _lines(_text(found))
            own = [number for number, line in enumerate(lines) if line in _own_lines(entry)]
            if own:
                lines[own[0] : own[0] + 1] = entry["replaced"]
                staged = placing.staged_name(path)
                record.begin(self.name, {**entry, "staged": staged})
                if lines or not entry["made"]:
                    text = "".join(f"{line}\n" for line in lines)
                    _rewrite(path, staged, text[:-1] if entry["unterminated"] else text, found, self.mode, record)
                else:
                    remove(path)
            elif not entry.get("begun"):
                kept = f"{self.path} has our line no more"
        if backup and os.path.lexists(backup):
            if _same(path, backup):
                remove(backup)
            else:
                kept = f"{kept or self.path}; what it was before us is {backup}"
        record.forget(self.name)
        return kept

    def _is_replaced(self, line: str) -> bool:
        return bool(self.replaces) and line != self.line and re.search(self.replaces, line) is not None

    def with_line(self, text: str, entry: dict[str, Any]) -> str:
        """Give the file as it is with the line; `entry` is the record's, or empty."""
        lines = _lines(text)
        own = (self.line, *_own_lines(entry))
        taken = [number for number, line in enumerate(lines) if line in own or self._is_replaced(line)]
        rest = [line for number, line in enumerate(lines) if number not in taken]
        place = taken[0] if taken else len(rest)
        if not taken or not self._fits(rest, place):
            place = self._place(rest)
        new = [*rest[:place], self.line, *rest[place:]]
        return text if new == lines else "".join(f"{line}\n" for line in new)

    def _fits(self, others: list[str], place: int) -> bool:
        return not (self.before and any(re.search(self.before, line) for line in others[:place])) and not (
            self.after and any(re.search(self.after, line) for line in others[place:])
        )

    def _place(self, others: list[str]) -> int:
        if self.before:
            return next((number for number, line in enumerate(others) if re.search(self.before, line)), len(others))
        if self.after:
            numbers = [number + 1 for number, line in enumerate(others) if re.search(self.after, line)]
            return numbers[-1] if numbers else len(others)
        return len(others)


def _lines(text: str) -> list[str]:
    lines = text.split("\n")
    return lines[:-1] if not lines[-1] else lines


def _own_lines(entry: dict[str, Any]) -> list[str]:
    return [line for line in (entry.get("line"), entry.get("old")) if line]


def _look(path: str) -> _Found | None:
    """Read what is at a path; None for nothing.

    Raises:
        UntrustedFile: it is a link, or no file: that is never replaced unasked.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        if os.path.islink(path):
            raise UntrustedFile(
                f"{path} is a symbolic link to {os.readlink(path)}", hint="remove it, or leave it as it is"
            ) from None
        raise error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise UntrustedFile(f"{path} is no regular file", hint="remove it, or leave it as it is")
        data = read_all(fd, path, _LIMIT_BYTES)
    finally:
        os.close(fd)
    return _Found(data, _digest(data), stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid))


def _ours(entry: dict[str, Any] | None) -> list[list[Any]]:
    return list((entry or {}).get("ours", []))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _text(found: _Found | None) -> str:
    # Whatever bytes there are: all but our line must come out as it went in.
    return found.data.decode(errors="surrogateescape") if found else ""


def _rewrite(path: str, staged: str, text: str, found: _Found | None, mode: int, record: Record) -> None:
    data = text.encode(errors="surrogateescape")
    if found is None:
        placing.place(path, staged, data, mode, record.owners.ids("root", "root"))
    else:
        placing.place(path, staged, data, found.mode, found.ids, like=path)


def _copy(path: str, backup: str, staged: str, found: _Found | None) -> None:
    if found is None:
        placing.place_link(backup, staged, os.readlink(path))
    else:
        placing.place(backup, staged, found.data, found.mode, found.ids, like=path)


def _same(path: str, other: str) -> bool:
    """Whether two files have the same content, owner and permissions, or two links the same target."""
    if os.path.islink(path) and os.path.islink(other):
        return os.readlink(path) == os.readlink(other)
    try:
        one, two = _look(path), _look(other)
    except (OSError, UntrustedFile):
        return False
    return one is not None and two is not None and one.state == two.state


def _differences(found: _Found, data: bytes, mode: int, ids: tuple[int, int]) -> str:
    parts = []
    if found.data != data:
        parts.append("content")
    if found.mode != mode:
        parts.append(f"mode {found.mode:04o} instead of {mode:04o}")
    if found.ids != ids:
        parts.append(f"owner {found.ids[0]}:{found.ids[1]} instead of {ids[0]}:{ids[1]}")
    return ", ".join(parts)


def _diff(old: bytes, new: bytes, old_name: str, new_name: str) -> str:
    if b"\0" in old + new:
        return ""
    before, after = (data.decode(errors="replace").splitlines() for data in (old, new))
    return "\n".join(difflib.unified_diff(before, after, old_name, new_name, lineterm=""))
