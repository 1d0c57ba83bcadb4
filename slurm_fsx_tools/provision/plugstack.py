"""Our lines in plugstack.conf: one before Pyxis's and one after, wherever that stands."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

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

DEFAULT_SCOPE = "global"
"""Pyxis's own, where its line does not say container_scope."""

_BEFORE = "00-slurm-fsx-before.conf"
_AFTER = "zz-slurm-fsx-after.conf"


class PluginLine(NamedTuple):
    """A plugin's line, and where it stands. Made of what json can carry."""

    file: str
    number: int
    words: tuple[str, ...]
    pattern: str = ""
    """By which include its file was found; empty for plugstack.conf itself."""

    @property
    def flag(self) -> str:
        """``required`` or ``optional``."""
        return self.words[0].lower()

    @property
    def plugin(self) -> str:
        return self.words[1]

    @property
    def is_ours(self) -> bool:
        return OURS in os.path.basename(self.plugin)

    @property
    def is_pyxis(self) -> bool:
        return PYXIS in os.path.basename(self.plugin)

    def option(self, name: str, default: str = "") -> str:
        """Give what the line says for an option, e.g. ``container_scope=job``; the last one counts."""
        said = [word.partition("=")[2] for word in self.words[2:] if word.startswith(f"{name}=")]
        return said[-1] if said else default


class Include(NamedTuple):
    """An include, and the files that it stands for. Made of what json can carry."""

    file: str
    number: int
    word: str
    """As it is written."""

    pattern: str
    """As a whole path."""

    files: tuple[str, ...]


class Plugstack(NamedTuple):
    """What Slurm reads of its plugins: the lines of all files, in the order in which it loads them."""

    path: str
    files: list[str]
    """Those that are there: plugstack.conf, and what is included."""

    lines: list[PluginLine]
    includes: list[Include]

    @classmethod
    def of(cls, path: str, files: list[str], lines: list[list[Any]], includes: list[list[Any]]) -> Plugstack:
        """Give what json has made lists of."""
        return cls(path, files, [PluginLine(*each) for each in lines], [Include(*each) for each in includes])

    @property
    def pyxis(self) -> PluginLine | None:
        """Pyxis's line; None where it is not loaded."""
        return next((line for line in self.lines if line.is_pyxis), None)


def plugstack_path(conf: SlurmConf) -> str:
    """Give where Slurm reads its plugins' lines."""
    return os.path.join(conf.folder, conf.value("PlugStackConfig") or "plugstack.conf")


def read_plugstack(path: str, root: str = "/") -> Plugstack:
    """Read plugstack.conf, with what it includes. Source: spank(8)."""
    found = Plugstack(path, [], [], [])
    _read(found, path, root, "")
    return found


def _read(found: Plugstack, path: str, root: str, pattern: str) -> None:
    """Read a file once, so that no include leads round in circles; what a pattern names may be a folder, or a FIFO."""
    place = f"{root.rstrip('/')}{path}"
    if path in found.files or not os.path.isfile(place):
        return
    with open(place, errors="surrogateescape") as file:
        rows = [line.partition("#")[0].split() for line in file]
    found.files.append(path)
    for number, words in enumerate(rows, start=1):
        if len(words) >= 2 and words[0].lower() == "include":
            inner = os.path.join(os.path.dirname(path), words[1])
            names = matching(inner, root)
            found.includes.append(Include(path, number, words[1], inner, tuple(names)))
            for name in names:
                _read(found, name, root, inner)
        elif len(words) >= 2:
            found.lines.append(PluginLine(path, number, tuple(words), pattern))


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
    pyxis = read_plugstack(path, conf.root).pyxis
    plugin = f"optional {home}/lib/slurm/{OURS}.so"
    if pyxis is not None and runtime in (AUTO, "pyxis"):
        return _around(pyxis, plugin)
    chosen = runtime if runtime != AUTO else _installed_runtime(conf.root)
    if chosen == "pyxis":
        raise NotHere(f"{path} has no line of Pyxis", hint="install Pyxis, or choose another --runtime")
    if chosen == AUTO:
        raise NotHere(
            f"{path} has no line of Pyxis, and neither enroot nor bubblewrap is installed",
            hint="install Pyxis, or bubblewrap and squashfuse, and run this again",
        )
    return [Line(path, f"{plugin} runtime={chosen}", replaces=rf"{OURS}\.so", key="plugin")]


def is_plugin_step(name: str) -> bool:
    """Whether a step of this name, as a record has it, has Slurm load the plugin."""
    return name.endswith((": plugin", ": before Pyxis", ": after Pyxis", f"/{_BEFORE}", f"/{_AFTER}"))


def _around(pyxis: PluginLine, plugin: str) -> list[Step]:
    scope = f"container_scope={pyxis.option('container_scope', DEFAULT_SCOPE)}"
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


def _installed_runtime(root: str) -> str:
    if find_program("enroot", root):
        return "enroot"
    if find_program("bwrap", root) and find_program("squashfuse", root):
        return "bwrap"
    return AUTO
