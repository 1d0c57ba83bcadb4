"""Every command with its options, as the page ``docs/commands.md``.

Write it anew with: make pages
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import click

from .main import cli

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = "slurm-fsx"

_HEAD = """\
# Commands

What `slurm-fsx COMMAND --help` says, for all commands. Results go to stdout, talk goes to stderr. Every command has
`-h` and `--help`. Where nothing else is said, a command exits with 0 when it has done its work, 1 when it could not,
and 2 when it was called wrongly or the configuration cannot be used; stderr says why, and what to do.

This page is made from the commands themselves: `make pages`.
"""


class Option(NamedTuple):
    """An option of a command."""

    names: tuple[str, ...]
    """As they are written, e.g. ``--jobs``."""

    value: str
    """What stands behind it, e.g. ``N``; empty for a flag."""

    help: str
    """What it does, with the values it takes and its default."""


class Command(NamedTuple):
    """A command or a group of commands."""

    path: tuple[str, ...]
    """Its words, from ``slurm-fsx`` on."""

    arguments: str
    """Its arguments and options in short, as its help names them."""

    paragraphs: tuple[str, ...]
    options: tuple[Option, ...]
    is_group: bool


def commands() -> Iterator[Command]:
    """Give all commands but hidden ones, each group before what is in it."""
    yield from _walk(cli, (PROGRAM,), None)


def _walk(command: click.Command, path: tuple[str, ...], parent: click.Context | None) -> Iterator[Command]:
    context = click.Context(command, info_name=path[-1], parent=parent)
    is_group = isinstance(command, click.Group)
    yield Command(
        path,
        " ".join(_usage(command)),
        tuple(" ".join(text.split()) for text in (command.help or "").split("\n\n")),
        tuple(_option(each, context) for each in command.params if isinstance(each, click.Option) and not each.hidden),
        is_group,
    )
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and not inner.hidden:
                yield from _walk(inner, (*path, name), context)


# click's own wording of values changes between its releases, and this page must not.


def _usage(command: click.Command) -> Iterator[str]:
    if any(isinstance(each, click.Option) and not each.hidden for each in command.params):
        yield "[OPTIONS]"
    if isinstance(command, click.Group):
        yield "COMMAND …"
    for each in command.params:
        if isinstance(each, click.Argument):
            name = each.metavar or (each.name or "").upper()
            text = f"{name}…" if each.nargs == -1 and "..." not in name else name
            yield text if each.required or text.startswith("[") else f"[{text}]"


def _option(option: click.Option, context: click.Context) -> Option:
    is_valueless = option.is_flag or option.count
    help_text = " ".join((option.help or "").split())
    notes = [] if is_valueless else [_range(option.type)]
    if option.show_default and not is_valueless:
        default = option.get_default(context)
        if isinstance(default, float):
            default = f"{default:g}"
        if default is not None:
            notes.append(f"Default: {default}.")
    return Option(
        (*option.opts, *option.secondary_opts),
        "" if is_valueless else _value(option),
        " ".join([help_text, *filter(None, notes)]),
    )


def _value(option: click.Option) -> str:
    if option.metavar:
        return option.metavar
    if isinstance(option.type, click.Choice):
        return "|".join(str(choice) for choice in option.type.choices)
    if isinstance(option.type, (click.types.IntParamType, click.types.FloatParamType)):
        return "N"
    return option.type.name.upper()


def _range(kind: object) -> str:
    if not isinstance(kind, (click.IntRange, click.FloatRange)):
        return ""
    if kind.min is not None and kind.max is not None:
        return f"{kind.min:g} to {kind.max:g}."
    return f"At least {kind.min:g}." if kind.min is not None else f"At most {kind.max:g}."


def format_page() -> str:
    """Give the page's text, in Markdown."""
    lines = [_HEAD.rstrip("\n")]
    for command in commands():
        name = " ".join(command.path)
        if len(command.path) > 1:
            lines += ["", f"{'#' * len(command.path)} {name}"]
        lines += ["", "```", f"{name} {command.arguments}".rstrip(), "```"]
        lines += [line for text in command.paragraphs for line in ("", escape(text))]
        if command.options:
            lines += ["", "| option | |", "|---|---|", *map(_row, command.options)]
    return "\n".join(lines) + "\n"


def _row(option: Option) -> str:
    written = " / ".join(f"`{name} {option.value}".rstrip().replace("|", "\\|") + "`" for name in option.names)
    return f"| {written} | {escape(option.help)} |"


def escape(text: str) -> str:
    """Keep text from being taken for Markdown, but for what stands in backquotes."""
    parts = re.split(r"(`[^`]*`)", text)
    parts[::2] = [re.sub(r"([\\*_<>\[\]|$`])", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)
