"""``slurm-fsx nccl env``: what a job would get of NCCL on this node, and why."""

from __future__ import annotations

import json
import os
from shlex import quote
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...config.model import Config
from ...config.origin import config_path
from ...config.snapshot import load_snapshot
from ...errors import ConfigError
from ...nccl.environment import explain, notes
from ...nccl.installation import current_installation
from ...nccl.profiles import profile_names, select_profile
from ...node.journal import printable
from ...shared_fs import SharedFs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...nccl.environment import Row
    from ...nccl.profiles import Profile

IN_CONTAINERS = {"": "yes", "host": "no", "library": "if the image has no NCCL and sees the folder"}
"""By an operation's scope."""


@click.command()
@click.option("--explain", "explained", is_flag=True, help="Say of each variable what it is for, and who says so.")
@click.option("--profile", metavar="NAME", help="Use this profile, not the configured one.")
@click.option("--shell", type=click.Choice(["bash", "json"]), help='Print for eval "$(...)", or for a program.')
def env(explained: bool, profile: str | None, shell: str | None) -> None:
    """Show what a job would get on this node; what its user has set wins.

    With --shell bash, what an admin should know about it is said only together with --explain.
    """
    config = _config(profile)
    installation = None
    if config["nccl.enabled"]:
        installation = current_installation(config, SharedFs(config["fsx.root"], config["fsx.timeout"]))
    rows = explain(installation, config)
    said = notes(installation, config)
    if shell == "json":
        click.echo(_json(rows, said, config, explained))
        return
    if shell == "bash":
        click.echo("".join(shell_line(row, explained) for row in rows), nl=False)
    elif rows:
        _print(rows, select_profile(config["nccl.profile"], config), explained)
    if not rows:
        click.echo(f"slurm-fsx: a job gets nothing: {_why_nothing(config, said)}", err=True)
    if explained or not rows or shell is None:
        for note in said:
            click.echo(f"slurm-fsx: {printable(note)}", err=True)


def shell_line(row: Row, explained: bool = False) -> str:
    """Write an operation as a line of POSIX shell, which does what happens to a task outside of containers."""
    verb, name, value, _ = row.operation
    if verb == "prepend":
        # An entry that is there already stays there, too: it comes second, so it does no harm.
        line = f'export {name}={quote(value)}"${{{name}:+:${name}}}"\n'
    else:
        line = f'[ -n "${{{name}+set}}" ] || export {name}={quote(value)}\n'
    return f"# {printable(row.why)} ({printable(row.source)})\n{line}" if explained else line


def _config(profile: str | None) -> Config:
    config = load_snapshot(config_path(os.environ)).config
    if profile is None:
        return config
    if profile not in profile_names(config):
        raise ConfigError(f"there is no profile {profile!r}", hint=f"use one of {', '.join(profile_names(config))}")
    return Config({**config.as_dict(), "nccl.profile": profile}, config.path, config.policy)


def _why_nothing(config: Config, said: Sequence[str]) -> str:
    if not config["nccl.enabled"]:
        return f"nccl.enabled is false in {config.path}"
    return "see below" if said else f"there is no installation in {config.below_fsx('nccl')}"


def _print(rows: Sequence[Row], profile: Profile, explained: bool) -> None:
    console = Console(width=None if os.isatty(1) else 1000)  # what grep reads is not to be folded
    if explained:
        console.print(f"profile {profile.name}:", profile.summary, soft_wrap=True)
        for row in rows:
            verb, name, value, scope = row.operation
            console.print()
            console.print(Text(name, style="bold"), verb, Text(printable(value)), soft_wrap=True)
            details = {"why": row.why, "source": row.source, "note": row.note, "in containers": IN_CONTAINERS[scope]}
            for label, text in details.items():
                if text:
                    console.print(f"  {label:14}", Text(printable(text)), soft_wrap=True)
        return
    table = Table("variable", "operation", "value", "in containers", box=None, pad_edge=False)
    for row in rows:
        verb, name, value, scope = row.operation
        table.add_row(Text(name), verb, Text(printable(value), overflow="fold"), IN_CONTAINERS[scope])
    console.print(table)


def _json(rows: Sequence[Row], said: Sequence[str], config: Config, explained: bool) -> str:
    operations = []
    for row in rows:
        operation = row.operation._asdict()
        if explained:
            operation.update(why=row.why, source=row.source, note=row.note)
        operations.append(operation)
    profile = select_profile(config["nccl.profile"], config).name
    document = {"profile": profile, "operations": operations, "notes": list(said)}
    return json.dumps(document, indent=2)
