"""A real Pyxis with its enroot, for tests that run where somebody has built them; Debian has no package of either.

``SLURM_FSX_TEST_PYXIS`` names spank_pyxis.so, built against the release of Slurm that the cluster runs, and
``SLURM_FSX_TEST_ENROOT`` the folder that enroot was installed into (``make install prefix=...``; /usr/local if unset).
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .node_root import Bind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .node import Node

PLUGIN = "/usr/local/lib/slurm/spank_pyxis.so"
SETTINGS = "/etc/enroot"


class Pyxis(NamedTuple):
    """Pyxis's plugin, and the folder that enroot is installed in.

    In the nodes the plugin is `PLUGIN`, enroot's commands are in /usr/local/bin, its containers in /var/lib/enroot, and
    its settings in `SETTINGS`, wherever it was built to look for them.
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

    @classmethod
    def stand_in(cls, build: Path, headers: Path | None = None) -> Pyxis:
        """Build the stand-in for both that the tests have, for a machine without them.

        Args:
            build: The folder to build in.
            headers: A folder with the ``slurm`` headers of another release than this machine's.
        """
        source = Path(__file__).resolve().parent.parent / "tests/cluster/standin_pyxis"
        include = [] if headers is None else [f"SLURM_INCLUDE={headers}"]
        subprocess.run(["make", "--silent", "-C", str(source), f"BUILD={build}", *include], check=True)
        return cls(build / "spank_pyxis.so", build)

    @property
    def binds(self) -> list[Bind]:
        """What the nodes see of them."""
        commands = sorted((self.enroot / "bin").glob("enroot*"))
        return [
            Bind(str(self.plugin.resolve()), PLUGIN, read_only=True),
            *(Bind(str(command.resolve()), f"/usr/local/bin/{command.name}", read_only=True) for command in commands),
            *(Bind(folder, folder, read_only=True) for folder in self._built_in("LIBRARY")),
            *(Bind(SETTINGS, folder, is_own=True) for folder in self._built_in("SYSCONF") if folder != SETTINGS),
        ]

    def _built_in(self, what: str) -> list[str]:
        """Give the folder that enroot's build has written into its command; none of what stands in for it."""
        command = (self.enroot / "bin/enroot").read_text(errors="replace")
        return re.findall(rf'^config::export ENROOT_{what}_PATH +"(/[^"]+)"$', command, re.MULTILINE)


def make_data_folders(machines: Iterable[Node]) -> None:
    """Give each node what enroot, or the stand-in, keeps containers in: a folder for each user, on the node itself."""
    folders = "".join(
        f"ENROOT_{name}_PATH /var/lib/enroot/{name.lower()}/user-$(id -u)\n" for name in ("RUNTIME", "CACHE", "DATA")
    )
    # Writable, as users of a named container want it.
    settings = folders + "ENROOT_TEMP_PATH /tmp\nENROOT_ROOTFS_WRITABLE yes\n"
    paths = ["/var/lib/standin", *(f"/var/lib/enroot/{name}" for name in ("runtime", "cache", "data"))]
    for node in machines:
        node.write(f"{SETTINGS}/enroot.conf", settings)
        node.run(["install", "-d", "-m", "1777", *paths])
