"""What a job sees of an NCCL version, on the host or in a container: a probe for a task, and what its answer means.

The probe is a little POSIX shell with nothing but the system's loader, since an image need not have Python: it lists
what a library needs, and then has it loaded into a program with all symbols bound, as NCCL loads a plugin.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, NamedTuple

from ..errors import SlurmFsxError
from ..files import read_trusted, write_atomically
from .verifying import FAILED, OK, WARNING, Finding, judge_linkage

if TYPE_CHECKING:
    from collections.abc import Sequence

_MARK = "slurm-fsx-probe"
_SCRIPT = r"""
printf '\0slurm-fsx-probe env\0'; env -0 2>/dev/null || tr '\n' '\0' </proc/self/environ
printf '\0slurm-fsx-probe libc\0'; for ld in /lib64/ld-linux-x86-64.so.2 /lib/ld-linux-aarch64.so.1 /lib/ld-musl-*.so.1
do [ -x "$ld" ] && break; done
printf '%s' "$ld"
for library; do
printf '\0slurm-fsx-probe load %s\0' "$library"
if [ ! -r "$library" ]; then printf 'missing\n'
elif [ ! -x "$ld" ]; then printf 'no loader\n'
elif "$ld" --list "$library" 2>&1; then
said=$(LD_BIND_NOW=1 LD_PRELOAD="$library" /bin/true 2>&1); code=$?
case $said in *cannot*|*rror*) [ "$code" != 0 ] || code=1 ;; esac
printf '%s\nstatus %s\n' "$said" "$code"
else printf 'status %s\n' "$?"; fi
done
printf '\0slurm-fsx-probe end\0'
"""
FORMAT = 1
WAIT_S = 300.0


class Probe(NamedTuple):
    """What a task saw."""

    environment: dict[str, str]
    loads: dict[str, str]
    """What the loader printed, by library."""


def probe_command(libraries: Sequence[str]) -> list[str]:
    """Give the command that a task runs."""
    return ["/bin/sh", "-c", _SCRIPT, "probe", *libraries]


def read_probe(output: bytes) -> Probe:
    """Read what the probe printed, whatever else stands before it.

    Raises:
        SlurmFsxError: it is not whole.
    """
    parts = output.decode(errors="surrogateescape").split(f"\0{_MARK} ")[1:]
    environment: dict[str, str] = {}
    loads: dict[str, str] = {}
    is_whole = False
    for part in parts:
        head, _, body = part.partition("\0")
        kind, _, name = head.partition(" ")
        if kind == "env":
            entries = (entry.partition("=") for entry in body.split("\0"))
            environment.update({key: value for key, equals, value in entries if equals})
        elif kind == "load":
            loads[name] = body
        is_whole = is_whole or kind == "end"
    if not is_whole:
        raise SlurmFsxError("the probe's answer is not whole", hint="see what the job printed")
    return Probe(environment, loads)


def judge_environment(probe: Probe, folders: Sequence[str], where: str, is_image: bool) -> Finding:
    """See whether a task finds the version's libraries.

    Args:
        probe: What it saw.
        folders: Where the version's libraries are, under every name that leads there.
        where: The check's name.
        is_image: Whether it ran in a container: an image's own NCCL is what it uses then.
    """
    entries = [entry.rstrip("/") for entry in probe.environment.get("LD_LIBRARY_PATH", "").split(":") if entry]
    found = next((entry for entry in entries if entry in folders), "")
    if found:
        first = "" if entries[0] == found else f", after {entries[0]}"
        return Finding(where, OK, f"LD_LIBRARY_PATH has {found}{first}")
    own = probe.environment.get("NCCL_VERSION", "")
    if is_image and own:
        return Finding(where, OK, f"the image has an NCCL of its own ({own}), and uses that")
    why = "programs use the system's NCCL, or none"
    hint = "see slurm-fsx nccl env, and whether the prolog and the SPANK plugin are in slurm.conf and plugstack.conf"
    if is_image:
        return Finding(where, WARNING, "LD_LIBRARY_PATH leads to no such library", why, "see nccl.in_container")
    return Finding(where, FAILED, f"LD_LIBRARY_PATH is {':'.join(entries) or 'not set'}", why, hint)


def judge_loading(probe: Probe, where: str) -> list[Finding]:
    """See whether the libraries load where the task ran."""
    findings = []
    for library, output in probe.loads.items():
        check = f"{os.path.basename(library)} {where}"
        text, _, status = output.rstrip().rpartition("\n")
        if output.startswith("missing"):
            why = "nothing of it reaches the programs there"
            hint = "have enroot mount it: slurm-fsx nccl apply puts the fragment"
            findings.append(Finding(check, FAILED, f"{library} is not to be seen there", why, hint))
        elif output.startswith("no loader"):
            findings.append(Finding(check, FAILED, "no C library's loader is there", "nothing dynamic runs there", ""))
        else:
            code = int(status.rpartition(" ")[2]) if status.startswith("status ") else 1
            findings.append(judge_linkage(check, library, text, code))
    return findings


def is_worth_keeping(probe: Probe) -> bool:
    """Whether what was found says something of the image: not where the image did not get to see the libraries."""
    return bool(probe.loads) and not any(output.startswith("missing") for output in probe.loads.values())


def keep(path: str, findings: Sequence[Finding], now_s: float) -> None:
    """Write down what was found of an image, so that it need not be looked at again.

    Raises:
        OSError: it cannot be written.
    """
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    document = {"format": FORMAT, "checked_s": now_s, "findings": [finding._asdict() for finding in findings]}
    write_atomically(path, json.dumps(document).encode())


def kept(path: str, where: str) -> list[Finding]:
    """Give what was found of an image before, as `judge_loading` names it; nothing where nothing of ours is there."""
    try:
        document = json.loads(read_trusted(path))
        if document["format"] != FORMAT:
            return []
        date = time.strftime("%Y-%m-%d", time.localtime(document["checked_s"]))
        found = [Finding(**finding) for finding in document["findings"]]
        return [
            finding._replace(
                check=f"{finding.check.partition(' ')[0]} {where}", detail=f"{finding.detail} (seen {date})"
            )
            for finding in found
        ]
    except (OSError, SlurmFsxError, ValueError, KeyError, TypeError):
        return []


def kept_path(root: str, version_id: str, identity: str) -> str:
    """Give where an image's findings are: by version, and by the image's digest or file."""
    safe = "".join(char if char.isalnum() or char in "._-" else "_" for char in identity)
    return f"{root}/.loading/{version_id}/{safe[:200]}.json"


def names_of(folder: str, root: str, current: str) -> list[str]:
    """Give every name under which a version's library folder may stand in a search path."""
    names = [f"{folder}/lib"]
    if os.path.basename(folder) == current:
        names += [f"{root}/current/lib", f"{root}/lib"]
    return names
