"""What set-up has done on a machine: a file that is written before and after each step, under a lock.

``/var/lib/slurm-fsx/setup/WHAT.json`` is ``{"format": 1, "steps": {NAME: ENTRY}}``, oldest step first. An entry has the
step's ``kind``, what `undo` needs, and ``begun`` while the step is at work: a process that is killed leaves it so, and
the next one goes on. Where the last record goes, so do the folders.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from typing import TYPE_CHECKING, Any

from ...errors import LockTimeout, SlurmFsxError
from ...files import open_trusted, publish, read_trusted, remove
from ...folders import make_folder
from . import placing
from .owners import Owners

if TYPE_CHECKING:
    from collections.abc import Iterator

STATE_DIR = "/var/lib/slurm-fsx/setup"
LOCK_WAIT_S = 60.0

_FORMAT = 1
_POLL_S = 0.1
_LIMIT_BYTES = 16 << 20


class Record:
    """What was done, and where: all paths of steps are below `root`.

    Args:
        what: Whose record, e.g. ``head``: the name of a file.
        root: ``/``, or the root folder of another system.
        entries: What is known so far.
    """

    def __init__(self, what: str, root: str = "/", entries: dict[str, dict[str, Any]] | None = None) -> None:
        self.what = what
        self.root = root
        self.entries = entries or {}
        self.owners = Owners(root)
        self._others: list[Record] | None = None
        self._path = f"{self.below(STATE_DIR)}/{what}.json"

    @classmethod
    def read(cls, what: str, root: str = "/") -> Record:
        """Read a record to plan by, without a lock.

        Raises:
            SlurmFsxError: a newer release has written it, or it is broken.
            OSError: it cannot be read.
        """
        record = cls(what, root)
        try:
            data = read_trusted(record._path, _LIMIT_BYTES)
        except FileNotFoundError:
            return record
        record.entries = _parse(data, record._path)
        return record

    @classmethod
    @contextlib.contextmanager
    def open(cls, what: str, root: str = "/", wait_s: float = LOCK_WAIT_S) -> Iterator[Record]:
        """Read a record to work by, while nobody else does anything on this machine.

        Args:
            what: As for the class.
            root: As for the class.
            wait_s: How long to wait for another set-up to end.

        Raises:
            SlurmFsxError: this process is not root's and the machine is; or as for `read`.
            LockTimeout: another set-up was still at work.
            OSError: the state's folder cannot be made.
        """
        if root == "/" and os.geteuid() != 0:
            raise SlurmFsxError("setting a machine up needs root", hint="run it with sudo, or see the plan: --dry-run")
        folder = Record(what, root)._folder
        lock = _lock(folder, wait_s)
        try:
            record = cls.read(what, root)
            record._tidy()
            try:
                yield record
            finally:
                _leave(folder)
        finally:
            os.close(lock)

    @staticmethod
    def known(root: str = "/") -> list[str]:
        """Name the records that there are."""
        try:
            names = os.listdir(Record("", root)._folder)
        except FileNotFoundError:
            return []
        return sorted(name[: -len(".json")] for name in names if name.endswith(".json") and name[0] != ".")

    def below(self, path: str) -> str:
        """Give the place of a step's path."""
        return path if self.root == "/" else f"{self.root.rstrip('/')}{path}"

    def get(self, name: str) -> dict[str, Any] | None:
        """Give a step's entry; None where it has done nothing."""
        return self.entries.get(name)

    def ours(self, name: str) -> list[Any]:
        """Give in what states a step has left its file, on this machine: by this record, or by another one.

        A machine that is head and compute node in one has several, with files in common.
        """
        return [state for record in (self, *self._read_others()) for state in (record.get(name) or {}).get("ours", [])]

    def hand_over(self, name: str) -> bool:
        """Leave what a step has done to another record that has the step, too; say whether there is one."""
        entry = self.entries[name]
        for other in self._read_others():
            theirs = other.get(name)
            if theirs is not None:
                backup = theirs.get("backup") or entry.get("backup", "")
                other.done(name, {**theirs, "ours": [*theirs["ours"], *entry["ours"]], "backup": backup})
                self.forget(name)
                return True
        return False

    def begin(self, name: str, entry: dict[str, Any]) -> None:
        """Say what a step is about to do; from now on `undo` takes it back."""
        self._put(name, {**entry, "begun": True})

    def done(self, name: str, entry: dict[str, Any]) -> None:
        """Say what a step has done."""
        self._put(name, entry)

    def forget(self, name: str) -> None:
        """Drop a step's entry."""
        if self.entries.pop(name, None) is not None:
            self._save()

    def _read_others(self) -> list[Record]:
        if self._others is None:
            self._others = []
            for what in self.known(self.root):
                with contextlib.suppress(OSError, SlurmFsxError):
                    self._others += [Record.read(what, self.root)] if what != self.what else []
        return self._others

    @property
    def _folder(self) -> str:
        return os.path.dirname(self._path)

    def _put(self, name: str, entry: dict[str, Any]) -> None:
        before = dict(self.entries)
        self.entries[name] = entry
        try:
            self._save()
        except BaseException:
            self.entries = before
            raise

    def _save(self) -> None:
        if not self.entries:
            remove(self._path)
            return
        staged = f"{self._folder}/.{self.what}.staged"
        data = json.dumps({"format": _FORMAT, "steps": self.entries}, indent=1).encode()
        try:
            placing.write_new(staged, data, 0o644)  # who is not root may see a plan
            publish(staged, self._path)
        except BaseException:
            remove(staged)
            raise

    def _tidy(self) -> None:
        """Remove what a killed process has left half-written."""
        for entry in self.entries.values():
            if "staged" in entry:
                remove(entry["staged"])


def _parse(data: bytes, path: str) -> dict[str, dict[str, Any]]:
    try:
        content = json.loads(data)
        number, steps = content["format"], content["steps"]
        if type(number) is int and number > _FORMAT:
            raise SlurmFsxError(
                f"{path} was written by a newer slurm-fsx-tools (format {number})", hint="use that one, or a newer one"
            )
        if number == _FORMAT and all(isinstance(entry["kind"], str) for entry in steps.values()):
            return dict(steps)
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise SlurmFsxError(
        f"{path} is no record of set-up", hint="move it away: what is there then counts as somebody else's"
    )


def _lock(folder: str, wait_s: float) -> int:
    """Make the state's folder, and hold its lock; the caller closes it."""
    end_s = time.monotonic() + wait_s
    path = f"{folder}/lock"
    while True:
        try:
            _make_folders(folder)
            if not os.path.lexists(path):
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
            lock = open_trusted(path)
        except FileNotFoundError:
            continue  # the one before has just left, and took the folders with it
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end_s:
                    os.close(lock)
                    raise LockTimeout(
                        f"another set-up has been at work on this machine for {wait_s:g} s", hint="try again later"
                    ) from None
                time.sleep(_POLL_S)
        if _is_at(lock, path):
            return lock
        os.close(lock)


def _is_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _make_folders(folder: str) -> None:
    parent = os.path.dirname(folder)
    os.makedirs(os.path.dirname(parent), exist_ok=True)
    for each in (parent, folder):
        make_folder(each, 0o755)


def _leave(folder: str) -> None:
    """Remove lock and folders where no record is left: whoever waits for the lock sees that it is another one."""
    try:
        names = os.listdir(folder)
        if any(name.endswith(".json") for name in names):
            return
        for name in names:
            if name.endswith(".staged"):
                os.unlink(f"{folder}/{name}")
        os.unlink(f"{folder}/lock")
        os.rmdir(folder)
        os.rmdir(os.path.dirname(folder))
    except OSError:
        pass  # others keep things in there
