"""Files of a checkout that are made from the code; a test tells when one is not as the code has it.

Write them anew with: make pages
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from click.shell_completion import BashComplete, ShellComplete, ZshComplete

from ..config import page as config_page
from ..files import write_atomically
from ..nccl import page as nccl_page
from ..provision.doctor import page as doctor_page
from . import man_page, reference
from .main import cli

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PAGES: Mapping[str, Callable[[], str]] = {
    "docs/commands.md": reference.format_page,
    "docs/config.md": config_page.format_page,
    "docs/doctor.md": doctor_page.format_page,
    "docs/nccl-variables.md": nccl_page.format_page,
    "share/man/man1/slurm-fsx.1": man_page.format_page,
}
"""Paths below the checkout, each with what gives its text."""

COMPLETIONS = {"share/completions/slurm-fsx": BashComplete, "share/completions/_slurm-fsx": ZshComplete}
"""What bash and zsh load. Their text is click's own and changes with its releases; any of them serves any other."""


def completion(shell: type[ShellComplete]) -> str:
    """Give the text of a shell's completion."""
    made = shell(cli, {}, reference.PROGRAM, "_SLURM_FSX_COMPLETE")
    # Not made.source(): for bash, it looks at this machine's.
    return (made.source_template % made.source_vars()).lstrip("\n")


def write_files(checkout: str) -> None:
    """Write all of them.

    Raises:
        OSError: the checkout cannot be written to.
    """
    texts = {path: make() for path, make in PAGES.items()}
    texts.update({path: completion(shell) for path, shell in COMPLETIONS.items()})
    for path, text in texts.items():
        target = os.path.join(checkout, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        write_atomically(target, text.encode())


if __name__ == "__main__":
    write_files(sys.argv[1])
