"""What the commands about NCCL's versions share: where they are, who may change them, and how they look."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING

import click

from ...config.origin import config_path
from ...config.snapshot import load_snapshot
from ...errors import SharedFsUnavailable, SlurmFsxError
from ...nccl.conditions import Facts
from ...nccl.installs.top_files import write_top_files
from ...nccl.profiles import select_profile
from ...node.journal import printable
from ..activity import forget_ended_jobs, version_marks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...config.model import Config
    from ...nccl.manifest import Manifest

ROOT = "nccl"
LOGS = "logs/nccl"


def load_config() -> Config:
    """Give the configuration that the environment names."""
    return load_snapshot(config_path(os.environ)).config


def folders(config: Config, prefix: str | None) -> tuple[str, str]:
    """Give the installation's folder and that of its logs, e.g. ``/fsx/nccl`` and ``/fsx/logs/nccl``."""
    if prefix is None:
        return config.below_fsx(ROOT), config.below_fsx(LOGS)
    path = os.path.abspath(prefix)
    if not path.isprintable() or "'" in path or ":" in path:
        raise SlurmFsxError(f"{prefix!r} cannot be in a search path", hint="choose a plain name")
    return os.path.join(path, ROOT), os.path.join(path, LOGS)


def check_may_change(root: str) -> None:
    """Raise where this user may not change the installation."""
    try:
        owner = os.stat(root).st_uid
    except FileNotFoundError:
        raise SharedFsUnavailable(
            f"there is no {root}", hint="see whether the file system is mounted; slurm-fsx nccl install makes it"
        ) from None
    if os.geteuid() not in (0, owner):
        raise SlurmFsxError(f"{root} belongs to user {owner}, for all", hint="run this by sudo")


def publish_files(root: str, manifest: Manifest, config: Config) -> None:
    """Write the documented files, and say what an admin should know."""
    # For every node that sources them: what this one is does not count.
    facts = Facts(manifest.nccl, manifest.ofi, manifest.libfabric, config["nccl.instance_type"])
    profile = select_profile(config["nccl.profile"], config, facts)
    variables = {variable.name: variable.value for variable in profile.variables}
    for note in write_top_files(root, manifest, variables):
        click.echo(f"slurm-fsx: {printable(note)}", err=True)


def date(seconds: float) -> str:
    """Give a local time to the minute."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns: drawn by rich on a terminal, else as plain text."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*head, box=None, pad_edge=False)
        for row in rows:
            table.add_row(*(Text(text, overflow="fold") for text in row))
        Console().print(table)
        return
    widths = [max(map(len, column)) for column in zip(head, *rows)]
    for row in (head, *rows):
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip())


def sweep_marks(root: str, config: Config) -> None:
    """Remove the marks of jobs that have ended, by the way: without Slurm they stay until the next time."""
    with contextlib.suppress(SlurmFsxError, OSError):
        forget_ended_jobs(config, "versions", version_marks(root))
