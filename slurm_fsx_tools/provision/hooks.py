"""Our prolog and epilog where this cluster keeps its own.

Slurm runs the files of such a folder in reverse alphabetical order, and stops at the first that fails. Ours is
``50-slurm-fsx``: after ParallelCluster's ``90_pcluster_health_check_manager``, which takes minutes and may drain the
node, so that no trace is left of a job that never ran there, and what the job gets is as fresh as it can be.
"""

from __future__ import annotations

import fnmatch
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import SlurmFsxError
from ..files import read_trusted
from .plugstack import plugstack_path, read_plugstack
from .slurm_conf import PLACES, check_slurm_conf, matching
from .steps import File, Folder, Line, Link, Withheld

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .slurm_conf import SlurmConf
    from .steps import Record, Step

RECORD = "hooks"
NAME = "50-slurm-fsx"
SITE_NAME = "90-site"
"""A script that slurm.conf named alone, in the folder that takes its place: before ours, as it was the only one."""

_WILD = re.compile(r"[*?[]")
_OLDER = "of slurm-fsx-tools"
_PARALLELCLUSTER = "slurm_parallelcluster.conf"
"""What slurm.conf includes where ParallelCluster wrote it."""

_ALLOC = ("alloc", "contain")
"""Flags that have the prolog run when a node is allocated; Contain implies Alloc."""


@dataclass(frozen=True)
class Places:
    """Where the cluster keeps one kind of script, and what slurm.conf lacks for it."""

    key: str
    """``Prolog`` or ``Epilog``."""

    folder: str
    name: str = NAME
    line: str = ""
    """What slurm.conf must say, where it does not yet."""

    site: tuple[str, ...] = ()
    """What slurm.conf names now, as it stands there, and what must go on to run."""

    pattern: str = ""
    """The part of the setting that names a whole folder."""


class Refused(SlurmFsxError):
    """A change of slurm.conf that Slurm would not take, or that cannot be made by whole lines."""


@dataclass(frozen=True)
class CheckedLine(Line):
    """A line of slurm.conf that is written only where Slurm's own reader takes the file with it."""

    def apply(self, record: Record) -> None:
        path = os.path.realpath(record.below(self.path))
        with open(path, errors="surrogateescape") as file:
            text = file.read()
        before = check_slurm_conf(path, text) if record.root == "/" else ""
        new = self.with_line(text, record.get(self.name) or {})
        problem = check_slurm_conf(path, new) if record.root == "/" else ""
        if problem and problem != before:
            raise Refused(f"Slurm does not take {self.path} with {self.line}: {problem}", hint="see slurm.conf(5)")
        super().apply(record)


def hook_steps(conf: SlurmConf, share: str, *, edit: bool, before: Iterable[dict[str, Any]] = ()) -> list[Step]:
    """List the steps that have this cluster's Slurm run our prolog and epilog.

    Args:
        conf: The cluster's slurm.conf, on the machine that the steps are for.
        share: Our folder of installed files, e.g. ``/opt/slurm-fsx/share/slurm-fsx``.
        edit: Whether slurm.conf is edited where it lacks something; else that is reported.
        before: The record's entries of earlier runs: lines that those wrote into slurm.conf stay.

    Raises:
        Refused: it would have to be edited, and not by whole lines.
        OSError, SlurmFsxError: our own files cannot be read.
    """
    steps: list[Step] = []
    lines: list[Step] = []
    missing: list[str] = []
    for key in ("Prolog", "Epilog"):
        place = find_place(conf, key)
        if conf.is_copy and place.site:
            missing.append(place.line)
            continue  # slurmctld hands that script out, or the node has it; which folder takes its place is the head's
        steps.append(Folder(place.folder, accepts_any=True))
        if place.site and edit:
            steps.append(_site_link(place))
        script = read_trusted(f"{share}/{key.lower()}.d/{NAME}")
        steps.append(File(f"{place.folder}/{place.name}", script, 0o755, recognises=_OLDER, by_pattern=True))
        if place.line and edit:
            lines.append(_setting_line(conf, key, place.line, lines))
        elif place.line:
            missing.append(place.line)
            missing += [f"# and in that folder a link to {script}" for script in place.site]
    flags = conf.value("PrologFlags")
    if not set(re.split(r"\s*,\s*", flags.lower())) & set(_ALLOC):
        line = f"PrologFlags={','.join(filter(None, ('Alloc', flags)))}"
        if edit:
            lines.append(_setting_line(conf, "PrologFlags", line, lines))
        else:
            missing.append(line)
    if missing:
        advice = "" if conf.is_copy else ", or slurm-fsx setup hooks --edit-slurm-conf"
        if _is_of_parallelcluster(conf) and all(line.startswith("PrologFlags=") for line in missing):
            # What is said there stays through all updates; Prolog and Epilog are denied there.
            advice = f", best by CustomSlurmSettings in the cluster's configuration{advice}"
        last = "on the head node: slurm-fsx setup hooks" if conf.is_copy else "then, on one: scontrol reconfigure"
        reason = "\n    ".join((f"{conf.path} needs this on all nodes{advice}:", *missing, f"# {last}"))
        lines.append(Withheld(f"lines of {conf.path}", reason, keeps=False))
    names = {step.name for step in (*steps, *lines)}
    again = [step for step in map(_again, before) if step is not None and step.name not in names]
    return [*steps, *again, *lines]


def _is_of_parallelcluster(conf: SlurmConf) -> bool:
    return any(os.path.basename(setting.file) == _PARALLELCLUSTER for setting in conf.settings)


def _again(entry: dict[str, Any]) -> Step | None:
    """Give a step that was taken before, when slurm.conf did not yet say what it says now."""
    if entry["kind"] == Line.kind:
        return Line(entry["path"], entry["line"], key=entry["key"])
    return Link(entry["path"], entry["ours"][0]) if entry["kind"] == Link.kind else None


def find_place(conf: SlurmConf, key: str) -> Places:
    """Find the folder of a kind of script: what slurm.conf names by pattern, else ``prolog.d`` beside it."""
    values = [setting.value for setting in conf.all(key) if setting.value not in ("", "(null)")]
    for value in values:
        folder, pattern = os.path.split(value)
        name = _name_for(pattern)
        if name and os.path.isabs(folder) and not _WILD.search(folder):
            return Places(key, folder, name, pattern=value)
    folder = f"{os.path.dirname(PLACES[0]) if conf.is_copy else conf.folder}/{key.lower()}.d"
    setting = f'"{folder}/*"' if re.search(r"\s", folder) else f"{folder}/*"
    return Places(key, folder, line=f"{key}={setting}", site=tuple(dict.fromkeys(values)))


def _name_for(pattern: str) -> str:
    """Give a name for ours by which a pattern finds it; empty where the pattern is none, or is too strange."""
    if not _WILD.search(pattern):
        return ""
    fitted = pattern.replace("*", NAME, 1).replace("*", "")
    return next((name for name in (NAME, f"{NAME}.sh", fitted) if fnmatch.fnmatchcase(name, pattern)), "")


def _site_link(place: Places) -> Step:
    """Give the step by which the script that slurm.conf names goes on to run.

    Raises:
        Refused: which scripts that is depends on Slurm's release, or on the node.
    """
    script = place.site[0]
    if len(place.site) > 1 or _WILD.search(script) or not os.path.isabs(script):
        raise Refused(
            f"slurm.conf says {place.key}={', '.join(place.site)}, which no single folder stands for",
            hint=f"have that run {place.folder}/{NAME}, or write {place.line} with links to all of it in there",
        )
    return Link(f"{place.folder}/{SITE_NAME}-{os.path.basename(script)}", script)


def empty_patterns(conf: SlurmConf) -> list[str]:
    """Give the patterns of prolog and epilog that name no file: Slurm 22.05 takes such a prolog for a failed one."""
    patterns = [setting.value for key in ("Prolog", "Epilog") for setting in conf.all(key) if "*" in setting.value]
    return [pattern for pattern in patterns if not matching(pattern, conf.root)]


def warnings(conf: SlurmConf) -> list[str]:
    """Say what in slurm.conf would hurt jobs, and is not ours to change."""
    found = []
    pyxis = read_plugstack(plugstack_path(conf), conf.root).pyxis is not None
    task_prolog = conf.get("TaskProlog")
    if pyxis and task_prolog:
        found.append(
            f"{task_prolog.file} sets TaskProlog={task_prolog.value}: Pyxis runs it inside the container, where it"
            " fails every step; take it out (our SPANK plugin does its work)"
        )
    return found


def _setting_line(conf: SlurmConf, key: str, line: str, others: Sequence[Step]) -> CheckedLine:
    """Give the step that sets something, where it is set now; the first one in a file makes the backup."""
    places = conf.all(key)
    crowded = [setting for setting in places if not setting.is_alone]
    if crowded or len({setting.file for setting in places}) > 1:
        where = (crowded or places)[0]
        raise Refused(
            f"{where.file} sets {key} in a line that cannot be replaced whole: {where.line.strip()}",
            hint=f"write {line} there yourself",
        )
    file = places[0].file if places else conf.path
    backup = not any(isinstance(step, Line) and step.path == file for step in others)
    # Nodes and partitions come last by custom; a setting stands before them.
    first = r"(?i)^\s*(NodeName|PartitionName|NodeSet|DownNodes)\s*="
    return CheckedLine(
        file, line, before="" if places else first, replaces=rf"(?i)^\s*{key}\s*=", backup=backup, key=key
    )
