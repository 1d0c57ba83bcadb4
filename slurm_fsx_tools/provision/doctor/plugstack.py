"""Checks of plugstack.conf: our two lines around Pyxis's, and plugins that this Slurm can load."""

from __future__ import annotations

import glob
import os
import re
import shlex
import stat
from typing import TYPE_CHECKING, Any

from ...errors import SlurmFsxError
from .elf import LIMIT_BYTES, read_number
from .findings import NOTE, PROBLEM, WARNING, Check, Finding, Probe, Trouble
from .slurm import STRANGE_FILE, is_left_over

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .findings import Context, Facts

_SPANK = "https://slurm.schedmd.com/spank.html"
_PYXIS = "https://github.com/NVIDIA/pyxis"
_OURS = "slurm_fsx"
_DEPTH = 10
_UNSET = ("(null)", "")

NO_PLUGIN = Trouble(
    PROBLEM,
    "{conf} has no line of our plugin.",
    "srun and sbatch do not know --container-name=NAME as a short name, and no task gets the NCCL environment. A "
    "file that nodes share is the head node's: slurm-fsx setup head there.",
    "slurm-fsx setup node",
    _SPANK,
)
NOT_BEFORE = Trouble(
    PROBLEM,
    "{conf} has no line of our plugin before Pyxis's.",
    "Named containers are then not prepared, and what is still mounted when Pyxis's epilog runs drains the node. Put "
    "'{line}' above Pyxis's.",
)
NOT_AFTER = Trouble(
    PROBLEM,
    "{conf} has no line of our plugin after Pyxis's.",
    "Tasks in containers do not get the NCCL environment. Put '{line}' below Pyxis's.",
)
REQUIRED = Trouble(
    PROBLEM,
    "{conf}:{number} makes our plugin required.",
    "After the next upgrade of Slurm, until it is built anew, every job would fail instead of starting without it; "
    "from 23.11 on nodes drain.",
    "sed -i 's/^required\\(.*spank_slurm_fsx\\)/optional\\1/' {conf}",
    _SPANK,
)
NO_FILE = Trouble(
    PROBLEM,
    "{conf}:{number} names {plugin}, which is not there.",
    "A required plugin that is missing fails every job; an optional one is silently left out.",
    "make install PREFIX=/opt/slurm-fsx",
    _SPANK,
)
NO_INCLUDE = Trouble(
    NOTE,
    "{conf}:{number} includes {pattern}, which names no file.",
    "What should stand there is not loaded.",
    "",
    _SPANK,
)
CONFIGLESS = Trouble(
    WARNING,
    "{conf}:{number} includes {pattern} by pattern, and the cluster is configless.",
    "Nodes that get slurm.conf from slurmctld do not get what a pattern stands for: write out each file's name.",
    "",
    "https://slurm.schedmd.com/configless_slurm.html",
)
OTHER_BUILD = Trouble(
    PROBLEM,
    "{plugin} was built for Slurm {built}, and this is {running}.",
    "Slurm does not load it ('Incompatible plugin version'): {effect}.",
    "make -C SOURCE-OF-THE-PLUGIN clean install",
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
    "was prepared stays. Say the same on all three lines.",
    "",
    _PYXIS,
)
SCOPE_UNSAID = SCOPE_DIFFERS._replace(
    severity=WARNING,
    text="Pyxis's line in {conf} does not say container_scope; ours take it as {ours}.",
    why="Pyxis's default has changed from release to release, and is global now: write container_scope={ours} on it.",
)


def parse(text: str, path: str) -> list[dict[str, Any]]:
    """Read a plugstack.conf: a dictionary for each plugin's line, or each include's. Source: spank(8)."""
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if len(words) >= 2:
            rest = words[2:]
            found.append({"conf": path, "number": number, "flag": words[0].lower(), "plugin": words[1], "args": rest})
    return found


def _gather(context: Context, facts: Facts) -> Any:
    slurm = facts["slurm"]
    path = slurm["settings"].get("plugstackconfig", "")
    if path in _UNSET:
        path = f"{os.path.dirname(slurm['conf']) or '/etc/slurm'}/plugstack.conf"
    lines, includes, files = [], [], []
    waiting = [(path, 0)]
    # Depth first and in order, as Slurm does.
    while waiting:
        conf, depth = waiting.pop(0)
        try:
            with open(conf, errors="replace") as file:
                parsed = parse(file.read(), conf)
        except FileNotFoundError:
            continue
        files.append(conf)
        inner: list[dict[str, Any] | tuple[str, int]] = []
        for line in parsed:
            if line["flag"] != "include":
                inner.append(line)
                continue
            pattern = os.path.join(os.path.dirname(conf), line["plugin"])
            names = sorted(glob.glob(pattern))
            includes.append({**line, "pattern": pattern, "names": names})
            inner += [(name, depth + 1) for name in names if depth < _DEPTH]
        lines.append(inner)
        waiting[:0] = [each for each in inner if isinstance(each, tuple)]
    return {"path": path, "files": files, "includes": includes, "lines": _flatten(lines, files)}


def _flatten(lines: list[list[Any]], files: list[str]) -> list[dict[str, Any]]:
    """Put the lines of included files where they are included."""
    by_file = dict(zip(files, lines))

    def walk(conf: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for each in by_file.pop(conf, []):
            found += walk(each[0]) if isinstance(each, tuple) else [each]
        return found

    return walk(files[0]) if files else []


def _gather_plugins(context: Context, facts: Facts) -> Any:
    """Look at every plugin's file: there, whose, built for which Slurm."""
    found: dict[str, Any] = {}
    folders = facts["slurm"]["settings"].get("plugindir", "").split(":")
    for line in facts["plugstack"]["lines"]:
        name = line["plugin"]
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
    stack = facts["plugstack"]
    lines: list[dict[str, Any]] = stack["lines"]
    ours = [n for n, line in enumerate(lines) if _is_ours(line)]
    pyxis = [n for n, line in enumerate(lines) if _is_pyxis(line)]
    if not ours:
        return [NO_PLUGIN.found(conf=stack["path"]), *_judge_files(stack, facts)]
    found = []
    if pyxis:
        place = shlex.join([lines[ours[0]]["plugin"]])
        does = [(n, _option(lines[n], "line") or "both") for n in ours]
        if not any(n < pyxis[0] and what in ("before", "both") for n, what in does):
            found.append(NOT_BEFORE.found(conf=stack["path"], line=f"optional {place} line=before"))
        if not any(n > pyxis[-1] and what in ("after", "both") for n, what in does):
            found.append(NOT_AFTER.found(conf=stack["path"], line=f"optional {place} line=after"))
    found += [
        REQUIRED.found(conf=lines[n]["conf"], number=lines[n]["number"]) for n in ours if lines[n]["flag"] != "optional"
    ]
    return [*found, *_judge_files(stack, facts)]


def _judge_files(stack: dict[str, Any], facts: Facts) -> list[Finding]:
    plugins = facts["plugins"]
    found = [
        NO_FILE.found(conf=line["conf"], number=line["number"], plugin=line["plugin"])
        for line in stack["lines"]
        if not plugins[line["plugin"]]["path"]
    ]
    is_configless = "enable_configless" in facts["slurm"]["settings"].get("slurmctldparameters", "").lower()
    for include in stack["includes"]:
        place = {"conf": include["conf"], "number": include["number"], "pattern": include["pattern"]}
        if not include["names"]:
            found.append(NO_INCLUDE.found(**place))
        elif is_configless and re.search(r"[*?[]", include["pattern"]):
            found.append(CONFIGLESS.found(**place))
        found += [STRANGE_FILE.found(path=name) for name in include["names"] if is_left_over(os.path.basename(name))]
    return found


def _judge_builds(context: Context, facts: Facts) -> list[Finding]:
    running = facts["slurm-version"]
    found = []
    for line in _first_lines(facts["plugstack"]["lines"]):
        seen = facts["plugins"][line["plugin"]]
        if not seen["path"]:
            continue
        if not seen["built"]:
            found.append(NO_BUILD.found(plugin=seen["path"], reason=seen["reason"]))
        # Slurm compares release and maintenance line for SPANK plugins, not the last number.
        elif _release(seen["built"]) != _release(running):
            effect = "every job fails" if line["flag"] == "required" else "it is left out"
            found.append(OTHER_BUILD.found(plugin=seen["path"], built=seen["built"], running=running, effect=effect))
    return found


def _judge_scope(context: Context, facts: Facts) -> list[Finding]:
    lines = facts["plugstack"]["lines"]
    pyxis = [line for line in lines if _is_pyxis(line)]
    if not pyxis:
        return []
    theirs = _option(pyxis[0], "container_scope")
    ours = sorted({_option(line, "container_scope") or "job" for line in lines if _is_ours(line)})
    if not ours or ours == [theirs]:
        return []
    values = {"conf": pyxis[0]["conf"], "ours": " and ".join(ours), "pyxis": theirs}
    return [SCOPE_DIFFERS.found(**values) if theirs else SCOPE_UNSAID.found(**values)]


def _first_lines(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give one line for each plugin."""
    return list({line["plugin"]: line for line in reversed(lines)}.values())[::-1]


def _is_ours(line: dict[str, Any]) -> bool:
    return _OURS in os.path.basename(line["plugin"])


def _is_pyxis(line: dict[str, Any]) -> bool:
    return "pyxis" in os.path.basename(line["plugin"])


def _option(line: dict[str, Any], name: str) -> str:
    values = [word.partition("=")[2] for word in line["args"] if word.startswith(f"{name}=")]
    return str(values[-1]) if values else ""


def _release(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"[0-9]+", version)[:2]]


PROBES = (
    Probe("plugstack", "plugstack.conf's folder", _gather, after=("slurm",)),
    Probe("plugins", "the SPANK plugins' folder", _gather_plugins, after=("slurm", "plugstack")),
)
CHECKS = (
    Check(
        "plugstack",
        "our plugin's lines stand around Pyxis's, optional, and name files that are there",
        ("slurm", "plugstack", "plugins"),
        _judge_lines,
        (NO_PLUGIN, NOT_BEFORE, NOT_AFTER, REQUIRED, NO_FILE, NO_INCLUDE, CONFIGLESS, STRANGE_FILE),
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
        ("plugstack",),
        _judge_scope,
        (SCOPE_DIFFERS, SCOPE_UNSAID),
    ),
)
