"""How imports show on a terminal, as bars, and elsewhere, as lines."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

import click

from ...containers.import_state import DONE, DOWNLOADING, FAILED, KEPT, UNCHANGED, WAITING
from ...containers.names import SUFFIX
from ...node.journal import printable
from .text import size

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...containers.import_state import Progress

_LINE_EVERY_S = 10.0
_ENDED = (DONE, UNCHANGED, KEPT, FAILED)
STYLES = {DONE: "green", UNCHANGED: "green", KEPT: "yellow", FAILED: "red", WAITING: "yellow"}


class Display(Protocol):
    """Shows how far imports are, from `start` to `stop`."""

    def start(self) -> None: ...

    def tell(self, progress: Progress) -> None: ...

    def stop(self) -> None: ...


def choose_display(files: list[str]) -> Display:
    """Give bars on a terminal, and lines elsewhere."""
    return Bars(files) if sys.stderr.isatty() else Lines()


class Lines:
    """A line for each new phase and each thing to know, and while bytes come, one every ten seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last: dict[str, tuple[str, float, int]] = {}

    def start(self) -> None:
        """Nothing is shown yet."""

    def tell(self, progress: Progress) -> None:
        """Print what is new."""
        with self._lock:
            now_s = self._clock()
            phase, told_s, told_bytes = self._last.get(progress.file, ("", 0.0, 0))
            is_new = phase != progress.phase
            is_due = progress.phase == DOWNLOADING and now_s - told_s >= _LINE_EVERY_S
            if not is_new and not is_due and not (progress.text and progress.phase == WAITING):
                return
            rate = "" if is_new else f" ({size((progress.done_bytes - told_bytes) / (now_s - told_s))}/s)"
            self._last[progress.file] = (progress.phase, now_s, progress.done_bytes)
        how_far = _how_far(progress) + rate if progress.phase not in (FAILED, KEPT, WAITING) else ""
        words = [f"{_short(progress.file)}: {progress.phase}", how_far]
        if progress.phase in (WAITING, *_ENDED):
            words.append(printable(progress.text))
        click.echo("  ".join(filter(None, words)), err=True)

    def stop(self) -> None:
        """Nothing is left to print."""


class Bars:
    """A bar for each image, drawn by rich, and one for all bytes."""

    def __init__(self, files: list[str]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
        from rich.text import Text

        class Amount(ProgressColumn):
            """How much of how much, and how fast."""

            def render(self, task: Any) -> Text:
                if task.fields["phase"] in (FAILED, KEPT, WAITING) or not task.completed:
                    return Text("")
                whole = f"/ {size(task.total)}" if task.total and not task.finished else ""
                rate = "" if task.finished or not task.speed else f" {size(task.speed)}/s"
                return Text(f"{size(task.completed)} {whole}{rate}".strip(), style="cyan")

        self._text = Text
        self._console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.fields[name]}", markup=False),
            TextColumn("[{task.fields[style]}]{task.fields[phase]:<11}"),
            BarColumn(bar_width=24),
            Amount(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=self._console,
            refresh_per_second=4,
        )
        self._lock = threading.Lock()
        self._tasks = {
            file: self._bars.add_task("", total=None, start=False, name=_short(file), phase="queued", style="dim")
            for file in files
        }
        self._phases: dict[str, str] = {}

    def start(self) -> None:
        """Draw."""
        self._bars.start()

    def tell(self, progress: Progress) -> None:
        """Move a bar; what a reader must know is printed above them."""
        task = self._tasks[progress.file]
        with self._lock:
            is_new = self._phases.get(progress.file) != progress.phase
            self._phases[progress.file] = progress.phase
        ended = progress.phase in _ENDED
        total = progress.total_bytes or (1 if ended else None)
        if is_new:
            self._bars.reset(task, start=True, total=total, name=_short(progress.file), phase=progress.phase,
                             style=STYLES.get(progress.phase, "bold"))  # fmt: skip
        done = total if ended else progress.done_bytes
        self._bars.update(task, completed=0 if progress.phase == FAILED else done, total=total)
        if progress.phase == FAILED:
            self._bars.stop_task(task)
        if progress.text and progress.phase in (WAITING, FAILED, KEPT):
            line = f"{_short(progress.file)}: {printable(progress.text)}"
            self._console.print(self._text(line, style=STYLES[progress.phase]))

    def stop(self) -> None:
        """Leave the last picture standing."""
        self._bars.stop()


def _how_far(progress: Progress) -> str:
    if not progress.done_bytes:
        return size(progress.total_bytes) if progress.total_bytes else ""
    if progress.total_bytes > progress.done_bytes:
        return f"{size(progress.done_bytes)} of {size(progress.total_bytes)}"
    return size(progress.done_bytes)


def _short(file: str) -> str:
    return file.removesuffix(SUFFIX)
