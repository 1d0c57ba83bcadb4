"""How imports show on a terminal, as bars, and elsewhere, as lines."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

import click

from ...containers.imports.state import DONE, DOWNLOADING, FAILED, KEPT, UNCHANGED, WAITING
from ...containers.names import SUFFIX, ImageName
from ...node.journal import printable
from .text import size

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...containers.imports.state import Progress

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
    """A bar for each image, drawn by rich."""

    def __init__(self, files: list[str]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
        from rich.text import Text

        class Amount(ProgressColumn):
            """How much of how much, and how fast."""

            def render(self, task: Any) -> Text:
                phase = task.fields["phase"]
                if phase in (FAILED, KEPT, WAITING) or not task.completed:
                    return Text("")
                if phase in _ENDED:
                    return Text(f"{size(task.completed)} in {task.fields['took_s']:.0f} s", style="cyan")
                whole = f" of {size(task.total)}" if task.total else ""
                rate = f"  {size(task.speed)}/s" if task.speed else ""
                left = f"  {task.time_remaining:.0f} s left" if task.total and task.time_remaining else ""
                return Text(f"{size(task.completed)}{whole}{rate}{left}", style="cyan")

        self._text = Text
        self._console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.fields[name]}", markup=False),
            TextColumn("[{task.fields[style]}]{task.fields[phase]:<11}"),
            BarColumn(bar_width=24),
            Amount(),
            console=self._console,
            refresh_per_second=4,
        )
        self._lock = threading.Lock()
        self._tasks = {
            file: self._bars.add_task(
                "", total=None, start=False, name=_short(file), phase="queued", style="dim", took_s=0.0
            )
            for file in files
        }
        self._phases: dict[str, str] = {}
        self._begun_s: dict[str, float] = {}

    def start(self) -> None:
        """Draw."""
        self._bars.start()

    def tell(self, progress: Progress) -> None:
        """Move a bar; what a reader must know is printed above them."""
        task = self._tasks[progress.file]
        now_s = time.monotonic()
        with self._lock:
            is_new = self._phases.get(progress.file) != progress.phase
            self._phases[progress.file] = progress.phase
            begun_s = self._begun_s.setdefault(progress.file, now_s)
        if is_new:
            # All fields: reset() forgets those that it is not given.
            self._bars.reset(
                task,
                name=_short(progress.file),
                phase=progress.phase,
                style=STYLES.get(progress.phase, "bold"),
                took_s=now_s - begun_s,
            )
        ended = progress.phase in _ENDED
        total = progress.total_bytes or (1 if ended else None)
        # Neither reset() nor update() takes a total away again.
        next(drawn for drawn in self._bars.tasks if drawn.id == task).total = total
        self._bars.update(task, completed=progress.done_bytes if progress.phase != FAILED else 0)
        if ended:
            self._bars.stop_task(task)
        if progress.text and progress.phase in (WAITING, KEPT, FAILED):
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
    return str(ImageName.from_file_name(file.removesuffix(SUFFIX)))
