"""What the commands about containers share: the configuration, complaints, and how sizes, dates and tables look."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import click

from ...config.origin import config_path
from ...config.snapshot import load_snapshot
from ...containers.store import Store
from ...node.journal import printable
from ...shared_fs import SharedFs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...config.model import Config, Snapshot
    from ...plugins import Failure

DRAWN_ROWS = 1000
"""How many rows rich may draw: it takes a second for some thousand."""


def load_config(on_failure: Failure | None = None) -> Snapshot:
    """Give the configuration that the environment names."""
    return load_snapshot(config_path(os.environ), on_failure=on_failure)


def check_answers(config: Config) -> None:
    """See that the shared file system does not hang; that it is there is for whoever looks for something in it.

    Raises:
        SharedFsUnavailable: it hangs, as whoever touched it then would.
    """
    root = config["fsx.root"]
    try:
        SharedFs(root, config["fsx.timeout"]).look(lambda: list(os.statvfs(root)))
    except OSError:
        pass


def open_store(config: Config) -> Store:
    """Give the catalogue's folders.

    Raises:
        SharedFsUnavailable: the shared file system hangs.
    """
    check_answers(config)
    return Store(config.below_fsx("containers"))


def complain(what: str, error: BaseException) -> None:
    """Say on stderr what was skipped, and why."""
    click.echo(f"slurm-fsx: skipped: {printable(f'{what}: {error}')}", err=True)


def explain(message: str, hint: str) -> None:
    """Say on stderr what went wrong, and on a line of its own what to do."""
    click.echo(f"slurm-fsx: {printable(message)}", err=True)
    if hint:
        click.echo(f"           {printable(hint)}", err=True)


def say_empty(folder: str) -> None:
    """Say on stderr, since stdout is for results, that there are no images."""
    click.echo(f"slurm-fsx: no images in {folder}: see slurm-fsx containers sync", err=True)


def size(size_bytes: float) -> str:
    """Give a size as people read it."""
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} GiB"


def date(seconds: float) -> str:
    """Give a local time to the minute."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def utc(seconds: float) -> str:
    """Give a time for programs."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns: drawn by rich on a terminal, else as plain text without trailing blanks."""
    if sys.stdout.isatty() and len(rows) <= DRAWN_ROWS:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False)
        for title in head:
            table.add_column(title, justify="right" if title == "size" else "left", overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))
        Console().print(table)
        return
    widths = [max(map(len, column)) for column in zip(head, *rows)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip() for row in (head, *rows)]
    click.echo("\n".join(lines))
