"""A machine to set up: a root folder with a few files, and its record."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from slurm_fsx_tools.provision.steps import Change, Outcome, Record, Step, apply, plan, undo


class Machine:
    """What is below a root folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "etc/slurm/prolog.d").mkdir(parents=True)

    def path(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        self.path(path).write_text(text)
        self.path(path).chmod(mode)

    def read(self, path: str) -> str:
        return self.path(path).read_text()

    def plan(self, *steps: Step) -> list[Change]:
        return plan(steps, Record.read("test", str(self.root)))

    def apply(self, *steps: Step, force: bool = False) -> Outcome:
        with Record.open("test", str(self.root)) as record:
            return apply(steps, record, force=force)

    def undo(self) -> Outcome:
        with Record.open("test", str(self.root)) as record:
            return undo(record)

    def tree(self) -> dict[str, tuple[object, ...]]:
        """Give everything below the root, but for the state of set-up itself."""
        found = {}
        for folder, folders, files in os.walk(self.root):
            for name in (*folders, *files):
                path = Path(folder, name)
                status = path.lstat()
                content: object = None
                if path.is_symlink():
                    content = os.readlink(path)
                elif path.is_file():
                    content = path.read_bytes()
                where = path.relative_to(self.root).as_posix()
                if not where.startswith("var"):
                    found[where] = (stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode), content)
        return found


def said(outcome: Outcome | Sequence[Change]) -> list[tuple[str, str]]:
    """Give outcome, or verdict, and step of everything that was reported."""
    if isinstance(outcome, Outcome):
        return [(event.outcome, event.step) for event in outcome]
    return [(change.verdict, change.step) for change in outcome]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "root")
