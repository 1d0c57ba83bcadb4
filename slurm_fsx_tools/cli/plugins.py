"""``slurm-fsx plugins``: what is active, from where, and what each hook would call."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from .. import hookspecs
from ..config.origin import config_path
from ..config.snapshot import load_snapshot
from ..errors import in_words
from ..plugins import HOOK_PREFIX, load_plugins
from .lazy import Group

if TYPE_CHECKING:
    from ..plugins import PluginSet


@click.group(cls=Group)
def plugins() -> None:
    """Show built-in and site plugins."""


@plugins.command("list", short_help="List the active plugins, and what each hook calls.")
@click.option("--json", "as_json", is_flag=True, help="Print an object with plugins, hooks and failures.")
def list_plugins(as_json: bool) -> None:
    """List the active plugins and their hooks.

    Says where each plugin comes from, and what each hook would call, in order. Exits with 1 if a plugin could not be
    loaded; the prolog would skip it.
    """
    failures: list[str] = []
    snapshot = load_snapshot(config_path(os.environ))
    active = load_plugins(snapshot, lambda what, error: failures.append(f"{what}: {in_words(error)}"))
    hooks = {
        name: [implementation.plugin for implementation in active.implementations(name)]
        for name in vars(hookspecs)
        if name.startswith(HOOK_PREFIX)
    }
    if as_json:
        found = [plugin._asdict() for plugin in active.plugins()]
        click.echo(json.dumps({"plugins": found, "hooks": hooks, "failures": failures}, indent=2))
    else:
        _print(active, hooks)
        for failure in failures:
            click.echo(f"slurm-fsx: skipped: {failure}", err=True)
    if failures:
        raise SystemExit(1)


def _print(active: PluginSet, hooks: dict[str, list[str]]) -> None:
    console = Console(width=None if os.isatty(1) else 120)
    table = Table("plugin", "from", "hooks", box=None, pad_edge=False)
    for plugin in active.plugins():
        table.add_row(plugin.name, plugin.origin, ", ".join(name[len(HOOK_PREFIX) :] for name in plugin.hooks))
    console.print(table)
    console.print()
    table = Table("hook", "calls, in this order", box=None, pad_edge=False)
    for name, called in hooks.items():
        table.add_row(name, ", ".join(called) or "-")
    console.print(table)
