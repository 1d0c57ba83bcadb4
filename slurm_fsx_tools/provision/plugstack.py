"""Our lines in plugstack.conf: one before Pyxis's and one after, wherever that stands."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import NotHere
from ..programs import find_program
from .slurm_conf import SlurmConf, matching
from .steps import File, Line

if TYPE_CHECKING:
    from .steps import Step

PYXIS = "spank_pyxis"
OURS = "spank_slurm_fsx"
AUTO = "auto"
RUNTIMES = (AUTO, "pyxis", "bwrap", "enroot")

_DEFAULT_SCOPE = "global"
"""Pyxis's own, where its line does not say container_scope."""

_BEFORE = "00-slurm-fsx-before.conf"
_AFTER = "zz-slurm-fsx-after.conf"


@dataclass(frozen=True)
class PluginLine:
    """A plugin's line, or an include's, and where it stands."""

    file: str
    words: tuple[str, ...]
    pattern: str = ""
    """By which include its file was found; empty for plugstack.conf itself."""

    @property
    def plugin(self) -> str:
        return self.words[1]

    def option(self, name: str, default: str) -> str:
        """Give what the line says for an option, e.g. ``container_scope=job``."""
        return next((word.partition("=")[2] for word in self.words[2:] if word.startswith(f"{name}=")), default)


def plugstack_path(conf: SlurmConf) -> str:
    """Give where Slurm reads its plugins' lines."""
    return os.path.join(conf.folder, conf.value("PlugStackConfig") or "plugstack.conf")


def read_plugstack(path: str, root: str = "/", pattern: str = "", seen: set[str] | None = None) -> list[PluginLine]:
    """Read the plugins' lines in the order in which Slurm loads them, included files too. Source: spank(8).

    Args:
        path: The file.
        root: The root folder of the machine.
        pattern: By which include it was found; empty for plugstack.conf itself.
        seen: The files that were read before: each is once, so that no include leads round in circles.
    """
    seen = set() if seen is None else seen
    seen.add(path)
    place = f"{root.rstrip('/')}{path}"
    if not os.path.isfile(place):  # a folder that a pattern stands for, too, or a FIFO
        return []
    with open(place, errors="surrogateescape") as file:
        rows = [line.partition("#")[0].split() for line in file]
    found = []
    for words in rows:
        if len(words) == 2 and words[0].lower() == "include":
            inner = os.path.join(os.path.dirname(path), words[1])
            for each in matching(inner, root):
                if each not in seen:
                    found += read_plugstack(each, root, inner, seen)
        elif len(words) >= 2:
            found.append(PluginLine(path, tuple(words), pattern))
    return found


def plugstack_steps(conf: SlurmConf, home: str, runtime: str = AUTO) -> list[Step]:
    """List the steps that put our lines where they belong.

    Args:
        conf: The cluster's slurm.conf, on the machine that the steps are for.
        home: Where we are installed, e.g. ``/opt/slurm-fsx``.
        runtime: What runs containers; ``auto`` for Pyxis where its line is found, else what is installed.

    Raises:
        NotHere: there is nothing that runs containers.
    """
    path = plugstack_path(conf)
    lines = read_plugstack(path, conf.root)
    pyxis = next((line for line in lines if PYXIS in line.plugin), None)
    plugin = f"optional {home}/lib/slurm/{OURS}.so"
    if pyxis is not None and runtime in (AUTO, "pyxis"):
        return _around(pyxis, plugin)
    chosen = runtime if runtime != AUTO else _installed_runtime()
    if chosen == "pyxis":
        raise NotHere(f"{path} has no line of Pyxis", hint="install Pyxis, or choose another --runtime")
    if chosen == AUTO:
        raise NotHere(
            f"{path} has no line of Pyxis, and neither enroot nor bubblewrap is installed",
            hint="install Pyxis, or bubblewrap and squashfuse, and run this again",
        )
    return [Line(path, f"{plugin} runtime={chosen}", replaces=rf"{OURS}\.so", key="plugin")]


def _around(pyxis: PluginLine, plugin: str) -> list[Step]:
    scope = f"container_scope={pyxis.option('container_scope', _DEFAULT_SCOPE)}"
    before, after = f"{plugin} line=before {scope}", f"{plugin} line=after {scope}"
    if pyxis.pattern and "*" in pyxis.pattern:
        # Slurm loads what a pattern stands for in alphabetical order. Files of our own last where Pyxis's is rewritten.
        folder, name = os.path.split(pyxis.file)
        glob_name = os.path.basename(pyxis.pattern)
        if _BEFORE < name < _AFTER and glob_name in ("*", "*.conf"):
            header = "# Written by slurm-fsx setup. Slurm reads this folder's files in alphabetical order: {}.\n"
            return [
                File(f"{folder}/{_BEFORE}", f"{header.format('before ' + name)}{before}\n", by_pattern=True),
                File(f"{folder}/{_AFTER}", f"{header.format('after ' + name)}{after}\n", by_pattern=True),
            ]
    theirs = rf"\b{PYXIS}\b"
    return [
        Line(pyxis.file, before, before=theirs, replaces=rf"{OURS}\.so(?!.*line=after)", key="before Pyxis"),
        Line(pyxis.file, after, after=theirs, replaces=rf"{OURS}\.so.*line=after", key="after Pyxis"),
    ]


def _installed_runtime() -> str:
    if find_program("enroot"):
        return "enroot"
    if find_program("bwrap") and find_program("squashfuse"):
        return "bwrap"
    return AUTO
