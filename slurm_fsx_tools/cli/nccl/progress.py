"""How an install shows: on a terminal by a line that moves, elsewhere by one line a step."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from ...nccl.installs.request import TITLES
from ...node.journal import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...nccl.installs.building import Reporter

_LINE_EVERY_S = 60.0


def choose_reporter(steps: Sequence[str]) -> Reporter:
    """Give a picture on a terminal, and lines elsewhere."""
    return Picture(steps) if sys.stderr.isatty() else Lines(steps)


class Lines:
    """A line when a step begins and ends, and one a minute while it lasts."""

    def __init__(self, steps: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._steps = list(steps)
        self._clock = clock
        self._step = ""
        self._begun_s = self._told_s = 0.0

    def begin(self, step: str, log: str) -> None:
        """Name the step and its log."""
        self._step = step
        self._begun_s = self._told_s = self._clock()
        click.echo(f"{_number(self._steps, step)} {TITLES[step]}; log: {log}", err=True)

    def say(self, line: str) -> None:
        """Show now and then what the step's program says."""
        now_s = self._clock()
        if now_s - self._told_s >= _LINE_EVERY_S:
            self._told_s = now_s
            number = _number(self._steps, self._step)
            click.echo(f"{number} since {elapsed(now_s - self._begun_s)}: {printable(line)[:120]}", err=True)

    def end(self, step: str, seconds: float) -> None:
        """Say how long it took."""
        click.echo(f"{_number(self._steps, step)} done in {elapsed(seconds)}", err=True)

    def skip(self, step: str) -> None:
        """Say that it was done before."""
        click.echo(f"{_number(self._steps, step)} {TITLES[step]}: done before", err=True)


class Picture:
    """The steps that are done, and below them the one that is under way, with its time and last line."""

    def __init__(self, steps: Sequence[str]) -> None:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._steps = list(steps)
        self._console = Console(stderr=True)
        from rich.table import Column

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
            TimeElapsedColumn(),
            # Only what is left of the width.
            TextColumn("{task.fields[line]}", style="dim", markup=False, table_column=Column(ratio=1, no_wrap=True)),
        )
        self._make: Callable[[], Progress] = lambda: Progress(
            *columns, console=self._console, transient=True, expand=True
        )
        self._progress: Any = None
        self._has_named_logs = False
        self._task: Any = None

    def begin(self, step: str, log: str) -> None:
        """Draw the step."""
        if not self._has_named_logs:
            self._has_named_logs = True
            click.echo(f"logs: {os.path.dirname(log)}", err=True)
        self._progress = self._make()
        self._task = self._progress.add_task(f"{_number(self._steps, step)} {TITLES[step]}", total=None, line="")
        self._progress.start()

    def say(self, line: str) -> None:
        """Show the last line."""
        self._progress.update(self._task, line=printable(line)[:200])

    def end(self, step: str, seconds: float) -> None:
        """Leave a line of it."""
        self.stop()
        self._console.print(f"[green]✓[/] {_number(self._steps, step)} {TITLES[step]}  [dim]{elapsed(seconds)}")

    def skip(self, step: str) -> None:
        """Leave a line of what was done before."""
        self._console.print(f"[green]✓[/] {_number(self._steps, step)} {TITLES[step]}  [dim]done before")

    def stop(self) -> None:
        """Take the moving line away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def elapsed(seconds: float) -> str:
    """Give a duration as people read it."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _number(steps: Sequence[str], step: str) -> str:
    return f"({steps.index(step) + 1}/{len(steps)})"
