"""Where we are installed, and what of it goes where on a machine."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import SlurmFsxError
from ..files import read_trusted
from .steps import File, Folder, Link

if TYPE_CHECKING:
    from .steps import Step

HOME = "/opt/slurm-fsx"
ETC = "/etc/slurm-fsx"
CONFIG = f"{ETC}/config.yaml"
UNITS = "/etc/systemd/system"
COMMAND = "/usr/local/bin/slurm-fsx"
SHELLS = {
    "/usr/local/share/man/man1/slurm-fsx.1": "man/man1/slurm-fsx.1",
    "/usr/local/share/bash-completion/completions/slurm-fsx": "completions/slurm-fsx",
    "/usr/local/share/zsh/site-functions/_slurm-fsx": "completions/_slurm-fsx",
}
"""Where man(1), bash-completion and zsh look by themselves, and which file of the share folder they find there."""


@dataclass(frozen=True)
class Installation:
    """An installation of ours on this machine."""

    home: str
    """By the name that stays through upgrades, e.g. ``/opt/slurm-fsx``."""

    share: str

    @classmethod
    def find(cls) -> Installation:
        """Give the one that runs.

        Raises:
            SlurmFsxError: it has no files to set a machine up with, as a checkout has none.
        """
        same = os.path.isdir(HOME) and os.path.realpath(HOME) == os.path.realpath(sys.prefix)
        home = HOME if same else sys.prefix
        share = f"{home}/share/slurm-fsx"
        if not os.path.isdir(share):
            raise SlurmFsxError(
                f"{share} is missing", hint="install slurm-fsx-tools: make install PREFIX=/opt/slurm-fsx"
            )
        return cls(home, share)

    def read(self, name: str) -> bytes:
        """Read a file of the share folder."""
        return read_trusted(f"{self.share}/{name}")

    def unit(self, name: str) -> File:
        """Give the step that installs a unit of systemd."""
        return File(f"{UNITS}/{name}", self.read(f"systemd/{name}"), recognises="slurm-fsx")

    def common_steps(self) -> list[Step]:
        """List what every machine gets: the command with its manual page, and folders for the site's own."""
        steps: dict[str, Step] = {}
        for path, name in SHELLS.items():
            words = path.split("/")
            above = ["/".join(words[:end]) for end in range(len(["", "usr", "local", "share", "man"]), len(words))]
            steps.update({folder: Folder(folder, accepts_any=True) for folder in above})
            steps[path] = Link(path, f"{self.share}/{name}")
        return [
            Link(COMMAND, f"{self.home}/bin/slurm-fsx"),
            *steps.values(),
            Folder(ETC, accepts_any=True),
            Folder(f"{ETC}/plugins.d", accepts_any=True),
        ]
