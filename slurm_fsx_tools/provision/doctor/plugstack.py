"""Checks of plugstack.conf: our two lines around Pyxis's, and plugins that this Slurm can load."""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING, Any

from ...errors import SlurmFsxError
from ..plugstack import DEFAULT_SCOPE
from .basics import is_configless, is_of_head, plugstack, told_where
from .elf import LIMIT_BYTES, read_number
from .engine import ROLES
from .findings import HEAD, NOTE, PROBLEM, WARNING, Check, Finding, Probe, Trouble
from .slurm import STRANGE_FILE, is_left_over

if TYPE_CHECKING:
    from ..plugstack import Plugstack
    from .findings import Context, Facts

_SPANK = "https://slurm.schedmd.com/spank.html"
_PYXIS = "https://github.com/NVIDIA/pyxis"

NO_PLUGIN = Trouble(
    PROBLEM,
    "{conf} has no line of our plugin.",
    "srun and sbatch do not know --container-name=NAME as a short name, and no task gets the NCCL environment.",
    "slurm-fsx setup {kind}",
    _SPANK,
)
NOT_BEFORE = Trouble(
    PROBLEM,
    "{conf} has no line of our plugin before Pyxis's.",
    "Named containers are then not prepared, and what is still mounted when Pyxis's epilog runs drains the node.",
    "slurm-fsx setup {kind}",
    _SPANK,
)
NOT_AFTER = Trouble(
    PROBLEM,
    "{conf} has no line of our plugin after Pyxis's.",
    "Tasks in containers do not get the NCCL environment.",
    "slurm-fsx setup {kind}",
    _SPANK,
)
REQUIRED = Trouble(
    PROBLEM,
    "{conf}:{number} makes our plugin required.",
    "After the next upgrade of Slurm, until it is built anew, every job would fail instead of starting without it; "
    "from 23.11 on nodes drain.",
    "slurm-fsx setup {kind}",
    _SPANK,
)
NO_FILE = Trouble(
    PROBLEM,
    "{conf}:{number} names {plugin}, which is not there.",
    "A required plugin that is missing fails every job. Install it there, or take the line out.",
    "",
    _SPANK,
)
NO_OPTIONAL = NO_FILE._replace(
    severity=WARNING,
    why="The line is optional: jobs start without what the plugin does. Install it there, or take the line out.",
)
NO_INCLUDE = Trouble(
    NOTE,
    "{conf}:{number} includes {pattern}, which is not there.",
    "What should stand there is not loaded.",
    "",
    _SPANK,
)
CONFIGLESS = Trouble(
    WARNING,
    "{conf}:{number} includes {pattern} by a relative pattern, and the cluster is configless.",
    "Nodes that get slurm.conf from slurmctld do not get what a pattern stands for. Write out each file's name, or the "
    "whole path of a folder that all nodes have.",
    "",
    "https://slurm.schedmd.com/configless_slurm.html",
)
OTHER_BUILD = Trouble(
    PROBLEM,
    "{plugin} was built for Slurm {built}, and this is {running}.",
    "Slurm does not load it ('Incompatible plugin version'): {effect}. Build it again where Slurm {running} is "
    "installed; ours comes with an archive that was made for that release, too (slurm-fsx setup upgrade).",
    "",
    _SPANK,
)
NO_BUILD = Trouble(
    WARNING,
    "{plugin} does not say which Slurm it was built for: {reason}.",
    "Slurm loads no plugin of another release.",
)
SCOPE_DIFFERS = Trouble(
    PROBLEM,
    "container_scope is {pyxis} on Pyxis's line and {ours} on ours, in {conf}.",
    "Containers are prepared under a name that Pyxis does not look for: it unpacks the whole image instead, and what "
    "was prepared stays. The command has our lines say what Pyxis's does.",
    "slurm-fsx setup {kind}",
    _PYXIS,
)
SCOPE_UNSAID = SCOPE_DIFFERS._replace(
    severity=WARNING,
    text="Pyxis's line in {conf} does not say container_scope; ours take it as {ours}.",
    why="Pyxis's default has changed from release to release, and is global now: write container_scope={ours} on it.",
    command="",
)


def _gather_plugins(context: Context, facts: Facts) -> Any:
    """Look at every plugin's file: there, whose, built for which Slurm."""
    found: dict[str, Any] = {}
    folders = facts["slurm"]["settings"].get("plugindir", "").split(":")
    for line in plugstack(facts).lines:
        name = line.plugin
        if name in found:
            continue
        paths = [name] if name.startswith("/") else [f"{folder}/{name}" for folder in folders if folder]
        path = next((each for each in paths if os.path.exists(each)), "")
        seen: dict[str, Any] = {"path": path, "built": "", "reason": "", "pyxis": ""}
        if path:
            status = os.stat(path)
            seen.update(mode=stat.S_IMODE(status.st_mode), uid=status.st_uid)
            seen.update(_read_plugin(path))
        found[name] = seen
    return found


def _read_plugin(path: str) -> dict[str, str]:
    with open(path, "rb") as file:
        data = file.read(LIMIT_BYTES)
    match = re.search(rb"pyxis: version v([0-9.]+)", data)
    pyxis = match[1].decode() if match else ""
    try:
        number = read_number(data, "plugin_version")
    except SlurmFsxError as error:
        return {"built": "", "reason": error.message, "pyxis": pyxis}
    if number is None:
        return {"built": "", "reason": "it has no symbol plugin_version", "pyxis": pyxis}
    # Source: SLURM_VERSION_NUM in slurm/slurm.h.
    return {"built": f"{number >> 16 & 0xFF}.{number >> 8 & 0xFF:02}.{number & 0xFF}", "reason": "", "pyxis": pyxis}


def _judge_lines(context: Context, facts: Facts) -> list[Finding]:
    stack = plugstack(facts)
    ours = [n for n, line in enumerate(stack.lines) if line.is_ours]
    pyxis = [n for n, line in enumerate(stack.lines) if line.is_pyxis]
    if not ours:
        return [_told_where(NO_PLUGIN.found(conf=stack.path, kind=_kind(facts)), facts), *_judge_files(stack, facts)]
    found = []
    if pyxis:
        does = [(n, stack.lines[n].option("line", "both")) for n in ours]
        if not any(n < pyxis[0] and what in ("before", "both") for n, what in does):
            found.append(NOT_BEFORE.found(conf=stack.path, kind=_kind(facts)))
        if not any(n > pyxis[-1] and what in ("after", "both") for n, what in does):
            found.append(NOT_AFTER.found(conf=stack.path, kind=_kind(facts)))
    lines = [stack.lines[n] for n in ours]
    found += [
        REQUIRED.found(conf=line.file, number=line.number, kind=_kind(facts))
        for line in lines
        if line.flag != "optional"
    ]
    return [*(_told_where(finding, facts) for finding in found), *_judge_files(stack, facts)]


def _kind(facts: Facts) -> str:
    """Give the kind of machine whose set-up writes this plugstack.conf."""
    return "head" if HEAD in facts[ROLES] or is_of_head(plugstack(facts).path, facts) else "node"


def _told_where(finding: Finding, facts: Facts) -> Finding:
    """Add what is to be known of the set-up that mends it."""
    if not finding.command:
        return finding
    why = f"{finding.why} What somebody changed since set-up wrote it is kept, unless it is run with --force."
    return told_where(finding._replace(why=why), plugstack(facts).path, facts)


def _judge_files(stack: Plugstack, facts: Facts) -> list[Finding]:
    plugins = facts["plugins"]
    found = []
    for line in stack.lines:
        if not plugins[line.plugin]["path"]:
            trouble = NO_FILE if line.flag == "required" else NO_OPTIONAL
            found.append(trouble.found(conf=line.file, number=line.number, plugin=line.plugin))
    for include in stack.includes:
        place: dict[str, Any] = {"conf": include.file, "number": include.number, "pattern": include.pattern}
        # A pattern may stand for nothing: Debian's own plugstack.conf has such a one.
        is_pattern = re.search(r"[*?[]", include.word) is not None
        if not include.files and not is_pattern:
            found.append(NO_INCLUDE.found(**place))
        elif is_configless(facts) and is_pattern and not include.word.startswith("/"):
            found.append(CONFIGLESS.found(**place))
        found += [STRANGE_FILE.found(path=name) for name in include.files if is_left_over(os.path.basename(name))]
    return found


def _judge_builds(context: Context, facts: Facts) -> list[Finding]:
    running = facts["slurm-version"]
    found = []
    # A plugin may stand in several lines, as ours does.
    for line in {line.plugin: line for line in plugstack(facts).lines}.values():
        seen = facts["plugins"][line.plugin]
        if not seen["path"]:
            continue
        if not seen["built"]:
            found.append(NO_BUILD.found(plugin=seen["path"], reason=seen["reason"]))
        # Slurm compares release and maintenance line for SPANK plugins, not the last number.
        elif _release(seen["built"]) != _release(running):
            effect = "every job fails" if line.flag == "required" else "it is left out"
            found.append(OTHER_BUILD.found(plugin=seen["path"], built=seen["built"], running=running, effect=effect))
    return found


def _judge_scope(context: Context, facts: Facts) -> list[Finding]:
    stack = plugstack(facts)
    if stack.pyxis is None:
        return []
    theirs = stack.pyxis.option("container_scope")
    ours = sorted({line.option("container_scope", "job") for line in stack.lines if line.is_ours})
    if not ours or ours == [theirs or DEFAULT_SCOPE]:
        return []
    trouble = SCOPE_DIFFERS if theirs else SCOPE_UNSAID
    finding = trouble.found(conf=stack.pyxis.file, ours=" and ".join(ours), pyxis=theirs, kind=_kind(facts))
    return [_told_where(finding, facts)]


def _release(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"[0-9]+", version)[:2]]


PROBES = (Probe("plugins", "the SPANK plugins' folder", _gather_plugins, after=("slurm", "plugstack")),)
CHECKS = (
    Check(
        "plugstack",
        "our plugin's lines stand around Pyxis's, optional, and name files that are there",
        ("slurm", "plugstack", "plugins", "mounts", ROLES),
        _judge_lines,
        (NO_PLUGIN, NOT_BEFORE, NOT_AFTER, REQUIRED, NO_FILE, NO_OPTIONAL, NO_INCLUDE, CONFIGLESS, STRANGE_FILE),
    ),
    Check(
        "plugin-build",
        "SPANK plugins were built for the Slurm that runs",
        ("slurm-version", "plugstack", "plugins"),
        _judge_builds,
        (OTHER_BUILD, NO_BUILD),
    ),
    Check(
        "container-scope",
        "container_scope is the same on Pyxis's line and on ours",
        ("slurm", "plugstack", "mounts", ROLES),
        _judge_scope,
        (SCOPE_DIFFERS, SCOPE_UNSAID),
    ),
)
