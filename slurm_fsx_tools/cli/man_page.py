"""The manual page ``slurm-fsx(1)``, made from the commands.

Write it anew with: make pages
"""

from __future__ import annotations

import re
from textwrap import wrap
from typing import TYPE_CHECKING

from ..version import VERSION
from .reference import PROGRAM, commands

if TYPE_CHECKING:
    from .reference import Command, Option

_FILES = (
    ("/etc/slurm-fsx/config.yaml", "The configuration; SLURM_FSX_CONFIG names another file."),
    ("/etc/slurm-fsx/plugins.d/*.py", "Site plugins."),
    ("/run/slurm-fsx/jobs/JOBID.env", "What the tasks of a job on this node get."),
    ("/run/slurm-fsx/jobs/JOBID.log", "What prolog and plugins had to say about a job that runs here."),
    ("/fsx/containers", "The catalogue of images."),
    ("/fsx/nccl", "Installed versions of NCCL."),
)
_EXIT_CODES = (
    ("0", "It has done its work."),
    ("1", "It could not; stderr says why, and what to do."),
    ("2", "It was called wrongly, or the configuration cannot be used."),
    ("3", "Some of it is done, as its own text says."),
)


def format_page() -> str:
    """Give the page's text, for man(1)."""
    name = _escape(PROGRAM)
    first, *rest = commands()
    lines = [
        '.\\" Made from the commands themselves: make pages',
        f'.TH {name.upper()} 1 "" "slurm\\-fsx\\-tools {VERSION}" "User Commands"',
        *(".nh", ".ad l"),
        *(".SH NAME", f"{name} \\- container names, NCCL environment and metrics for Slurm jobs"),
        *(".SH SYNOPSIS", f".B {name}", _escape(first.arguments)),
        *(
            ".SH DESCRIPTION",
            "Results go to stdout, talk goes to stderr.",
            *(line for text in first.paragraphs for line in _sentences(text)),
        ),
        *(".SH OPTIONS", *(line for option in first.options for line in _option(option))),
        ".SH COMMANDS",
    ]
    lines += [line for command in rest for line in _section(command)]
    lines += [".SH FILES", *(line for path, text in _FILES for line in _entry(f"\\fI{_escape(path)}\\fR", text))]
    lines += [".SH EXIT STATUS", *(line for code, text in _EXIT_CODES for line in _entry(code, text))]
    lines += [".SH SEE ALSO", ".BR sbatch (1),", ".BR srun (1),", ".BR enroot (1)"]
    return "\n".join(lines) + "\n"


def _section(command: Command) -> list[str]:
    words = " ".join(command.path[1:])
    lines = [f".SS {_escape(words)}"]
    if not command.is_group:
        lines += [f".B {_escape(' '.join(command.path))}", _escape(command.arguments), ".PP"]
    for number, text in enumerate(command.paragraphs):
        lines += [*([".PP"] if number else []), *_sentences(text)]
    return lines + [line for option in command.options for line in _option(option)]


def _option(option: Option) -> list[str]:
    value = f" \\fI{_escape(option.value)}\\fR" if option.value else ""
    return _entry(", ".join(f"\\fB{_escape(name)}\\fR{value}" for name in option.names), option.help)


def _entry(term: str, text: str) -> list[str]:
    return [".TP", term, *_sentences(text)]


def _sentences(text: str) -> list[str]:
    """Divide text into lines, since roff(7) wants each sentence to begin one."""
    return [
        _escape(line)
        for sentence in re.split(r"(?<=[.:;]) (?=[A-Z-])", text.replace("`", ""))
        for line in wrap(sentence, 60, break_long_words=False, break_on_hyphens=False)
    ]


def _escape(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "...")
    escaped = re.sub(r"(?<=\w)/(?=\w)", r"/\\:", escaped)  # where a long path may be divided
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
