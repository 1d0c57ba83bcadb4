"""slurm.conf as it is on disk, with its includes: which setting stands where, and what Slurm says of a new text."""

from __future__ import annotations

import glob
import os
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import SlurmFsxError
from ..files import remove
from ..node.journal import printable
from ..programs import find_program
from .steps.placing import write_new

if TYPE_CHECKING:
    from collections.abc import Mapping

PLACES = (
    *("/etc/slurm/slurm.conf", "/opt/slurm/etc/slurm.conf", "/etc/slurm-llnl/slurm.conf"),
    *("/usr/local/etc/slurm.conf", "/usr/local/slurm/etc/slurm.conf"),
)
"""Where slurm.conf is looked for; the second is ParallelCluster's."""

CACHES = ("/run/slurm/conf/slurm.conf", "/var/spool/slurmd/conf-cache/slurm.conf")
"""Where nodes of a configless cluster keep a copy, which nobody may edit. Source: Slurm's page "configless"."""

_SETTING = re.compile(r"\s*([A-Za-z][\w-]*)\s*=\s*(\"[^\"]*\"|\S*)")
_CHECK_TIMEOUT_S = 20.0


class SlurmConfMissing(SlurmFsxError):
    """There is no slurm.conf that could be read."""


@dataclass(frozen=True)
class Setting:
    """A setting, and where it stands."""

    key: str
    value: str
    file: str
    """Of the machine whose root folder was read, e.g. ``/etc/slurm/slurm.conf``."""

    line: str
    """The whole line as it stands there; several where it goes on over lines."""

    @property
    def is_alone(self) -> bool:
        """Whether nothing else stands in the line, so that it can be replaced whole."""
        match = _SETTING.match(self.line)
        return match is not None and "\n" not in self.line and not self.line[match.end() :].partition("#")[0].strip()


@dataclass(frozen=True)
class SlurmConf:
    """What slurm.conf and its includes say."""

    path: str
    settings: tuple[Setting, ...]
    root: str = "/"

    @property
    def is_copy(self) -> bool:
        """Whether this is a configless cluster's node, whose slurmctld hands the configuration out."""
        return self.path in CACHES

    @property
    def folder(self) -> str:
        return os.path.dirname(self.path)

    def all(self, key: str) -> list[Setting]:
        """Give each place of a setting, in the order in which Slurm reads them."""
        return [setting for setting in self.settings if setting.key.lower() == key.lower()]

    def get(self, key: str) -> Setting | None:
        """Give the place of a setting that counts; None where it is not set, or by ``(null)``."""
        found = [setting for setting in self.all(key) if setting.value not in ("", "(null)")]
        return found[-1] if found else None

    def value(self, key: str, default: str = "") -> str:
        """Give what a setting says."""
        setting = self.get(key)
        return setting.value if setting else default


def find_slurm_conf(root: str = "/", environ: Mapping[str, str] | None = None, *, copies: bool = False) -> str:
    """Give the path of slurm.conf.

    Args:
        root: The root folder of the machine.
        environ: The environment; ``SLURM_CONF`` names it there.
        copies: Whether the copy will do that a configless cluster's node has.

    Raises:
        SlurmConfMissing: it is nowhere, or this is a node of a configless cluster.
    """
    below = root.rstrip("/")
    named = (environ or {}).get("SLURM_CONF", "") if root == "/" else ""
    for path in (named, *PLACES):
        if path and path not in CACHES and os.path.isfile(f"{below}{path}"):
            return path
    for path in CACHES:
        if os.path.isfile(f"{below}{path}"):
            if copies:
                return path
            raise SlurmConfMissing(
                f"this node has its configuration from slurmctld ({path})", hint="set it up on the head node"
            )
    raise SlurmConfMissing(
        f"there is no slurm.conf in {', '.join(os.path.dirname(place) for place in PLACES)}",
        hint="name it: SLURM_CONF=PATH slurm-fsx setup …",
    )


def read_slurm_conf(path: str, root: str = "/") -> SlurmConf:
    """Read slurm.conf, with what it includes.

    Raises:
        OSError: it cannot be read. An include that is missing is Slurm's trouble, and skipped here.
    """
    return SlurmConf(path, tuple(_read(path, os.path.dirname(path), root, set())), root)


def check_slurm_conf(path: str, text: str) -> str:
    """Have Slurm read a text as slurm.conf, before it takes its place; give what it complains of, empty for nothing.

    What is looked at is the syntax and the names of settings, by ``scontrol``, which says so from 22.05 to 26.05; for
    where there is no scontrol, nothing is said.

    Args:
        path: Where the file is: what it includes may be named relative to its folder.
        text: The file's content to be.
    """
    scontrol = find_program("scontrol")
    if scontrol is None:
        return ""
    trial = f"{os.path.dirname(path)}/.{os.path.basename(path)}.slurm-fsx-trial"
    try:
        write_new(trial, text.encode(errors="surrogateescape"), 0o600)
        done = subprocess.run(
            [scontrol, "show", "hostnames", "localhost"],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_CHECK_TIMEOUT_S,
            env={**os.environ, "SLURM_CONF": trial},
        )
    except subprocess.TimeoutExpired:
        return f"scontrol did not read it within {_CHECK_TIMEOUT_S:g} s"
    finally:
        remove(trial)
    if done.returncode == 0 and "error" not in done.stderr:
        return ""
    return printable(" ".join(done.stderr.split())) or f"scontrol ended with {done.returncode}"


def _read(path: str, base: str, root: str, seen: set[str]) -> list[Setting]:
    """Read a file; `seen` are those that were read before: each is once, so that no include leads round in circles."""
    seen.add(path)
    found: list[Setting] = []
    with open(f"{root.rstrip('/')}{path}", errors="surrogateescape") as file:
        raw = file.read().split("\n")
    number = 0
    while number < len(raw):
        whole = raw[number]
        number += 1
        while whole.endswith("\\") and number < len(raw):
            whole += "\n" + raw[number]
            number += 1
        text = re.sub(r"(?<!\\)#.*", "", whole.replace("\\\n", " "))
        words = text.split()
        if len(words) == 2 and words[0].lower() == "include":
            included = os.path.join(base, words[1])
            if included not in seen and os.path.isfile(f"{root.rstrip('/')}{included}"):
                found += _read(included, base, root, seen)
            continue
        found += [Setting(match[1], match[2].strip('"'), path, whole) for match in _SETTING.finditer(text)]
    return found


def matching(pattern: str, root: str = "/") -> list[str]:
    """Give what a pattern in Slurm's configuration stands for, sorted as Slurm's glob does."""
    below = root.rstrip("/")
    return [path[len(below) :] for path in sorted(glob.glob(f"{below}{pattern}"))]
