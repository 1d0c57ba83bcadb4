"""``slurm-fsx config``: what the configuration says, and whether it can be used."""

from __future__ import annotations

import json
import os

import click

from ..config.model import SETTINGS
from ..config.origin import config_path
from ..config.snapshot import load_snapshot
from ..config.source import load_config
from ..errors import ConfigError
from .lazy import Group

_UNITS = {"seconds": " Seconds.", "days": " Days.", "size": " Bytes; 500 GiB is understood too."}


@click.group(cls=Group)
def config() -> None:
    """Show and check the configuration."""


@config.command(short_help="Print every key with its value, default and meaning.")
@click.option("--json", "as_json", is_flag=True, help="Print the values as a JSON object.")
def show(as_json: bool) -> None:
    """Print every key with its value, its default and its meaning, as YAML that can be used as it is."""
    path = config_path(os.environ)
    values = load_config(path).as_dict()
    if as_json:
        click.echo(json.dumps(values, indent=2))
        return
    click.echo(f"# {path}" + ("" if os.path.exists(path) else " (absent: these are the defaults)"))
    section = ""
    for setting in SETTINGS:
        above, _, name = setting.key.rpartition(".")
        if above != section:
            section = above
            click.echo(f"{section}:" if section else "")
        indent = "  " if section else ""
        choices = f" One of: {', '.join(setting.choices)}." if setting.choices else ""
        unit = _UNITS.get(setting.kind, "")
        default = "" if values[setting.key] == setting.default else f" Default: {json.dumps(setting.default)}."
        click.echo(f"{indent}# {setting.help}{unit}{choices}{default}")
        click.echo(f"{indent}{name}: {json.dumps(values[setting.key])}")


@config.command(short_help="Say file, line and key of each mistake; as root, compile it.")
@click.argument("path", required=False, type=click.Path())
def check(path: str | None) -> None:
    """Check the configuration at PATH, or the one in use; as root, also compile it for the next prolog.

    Exits with 2 if it cannot be used, and says file, line and key of every mistake.
    """
    used = config_path(os.environ)
    if path is not None and not os.path.exists(path):
        raise ConfigError(f"{path} is missing", hint="slurm-fsx config show prints one to begin with")
    load_config(path or used)
    if not os.path.exists(path or used):
        click.echo(f"{path or used} is absent: the defaults are in use")
        return
    if path in (None, used):
        load_snapshot(used)
    click.echo(f"{path or used} is fine")
