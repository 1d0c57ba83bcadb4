"""A real Pyxis with its enroot, for tests that run where somebody has built them; Debian has no package of either.

``SLURM_FSX_TEST_PYXIS`` names spank_pyxis.so, built against the release of Slurm that the cluster runs, and
``SLURM_FSX_TEST_ENROOT`` the folder that enroot was installed into (``make install prefix=...``; /usr/local if unset).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from .node_root import Bind

PLUGIN = "/usr/local/lib/slurm/spank_pyxis.so"


class Pyxis(NamedTuple):
    """Pyxis's plugin, and the folder that enroot is installed in.

    In the nodes the plugin is `PLUGIN`, enroot's commands are in /usr/local/bin, and its containers in /var/lib/enroot.
    """

    plugin: Path
    enroot: Path

    @classmethod
    def from_environment(cls) -> Pyxis | None:
        """The one that the environment names, if it names one."""
        plugin = os.environ.get("SLURM_FSX_TEST_PYXIS")
        if not plugin:
            return None
        return cls(Path(plugin), Path(os.environ.get("SLURM_FSX_TEST_ENROOT", "/usr/local")))

    @property
    def binds(self) -> list[Bind]:
        """What the nodes see of them."""
        commands = sorted((self.enroot / "bin").glob("enroot*"))
        return [
            Bind(str(self.plugin.resolve()), PLUGIN, read_only=True),
            *(Bind(str(command.resolve()), f"/usr/local/bin/{command.name}", read_only=True) for command in commands),
        ]
