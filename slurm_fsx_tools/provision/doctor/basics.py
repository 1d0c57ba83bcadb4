"""What several subjects go by: the kind of node, its mounts, Slurm's settings, and the lines of its plugins."""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING, Any

from ...errors import SlurmUnavailable
from ...programs import find_program
from ...slurm import commands
from ..mounts import Mount, mount_of, read_mounts
from ..plugstack import Plugstack, read_plugstack
from ..slurm_conf import CACHES, PLACES, read_slurm_conf
from .engine import ROLES
from .findings import COMPUTE, HEAD, Probe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..slurm_conf import SlurmConf
    from .findings import Context, Facts, Finding

DAEMONS = {HEAD: "slurmctld", COMPUTE: "slurmd"}
UNSET = ("65534", "4294967294", "(null)", "")
"""What ``scontrol show config`` has for times that are not set: NO_VAL16 and NO_VAL."""

_PATH = "/opt/slurm/bin:/opt/slurm/sbin:/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"
"""Where Slurm is looked for besides PATH; ParallelCluster's is in /opt/slurm, which root's PATH need not have."""

_ASK_S = 3.0


def slurm_program(name: str) -> str:
    """Give the path of one of Slurm's programs.

    Raises:
        SlurmUnavailable: it is not here.
    """
    path = shutil.which(name) or shutil.which(name, path=_PATH)
    if path is None:
        raise SlurmUnavailable(f"{name} is not installed here", hint="run this where Slurm's commands are")
    return path


def parse_settings(text: str) -> dict[str, str]:
    """Read what ``scontrol show config`` prints: keys in lower case; ``Prolog[0]`` and so on joined by commas."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            _add(found, key, value)
    return found


def settings_of(conf: SlurmConf) -> dict[str, str]:
    """Give what slurm.conf and its includes say, as `parse_settings` gives it; scripts named twice joined by commas."""
    found = {setting.key.lower(): setting.value for setting in conf.settings}
    found.update({key: ",".join(each.value for each in conf.all(key)) for key in ("prolog", "epilog")})
    return found


def seconds(settings: Mapping[str, str], key: str) -> float | None:
    """Give a time, as ``10 sec`` or ``10``; None where it is not set."""
    text = settings.get(key, "").strip()
    match = re.match(r"[0-9]+", text)
    return None if match is None or match[0] in UNSET else float(match[0])


def _add(found: dict[str, str], key: str, value: str) -> None:
    name = re.sub(r"\[[0-9]+\]$", "", key.strip().lower())
    text = value.strip()
    found[name] = f"{found[name]},{text}" if name in found and key.rstrip().endswith("]") else text


def ask(command: Sequence[str], limit_s: float = _ASK_S) -> str:
    """Run one of Slurm's commands, wherever it is; give what it printed.

    Raises:
        SlurmUnavailable: it is not here, or fails, or does not end in time.
    """
    return commands.ask((slurm_program(command[0]), *command[1:]), limit_s)


def mounts(facts: Facts) -> list[Mount]:
    """Give the mounts among the facts."""
    return [Mount(*each) for each in facts["mounts"]]


def plugstack(facts: Facts) -> Plugstack:
    """Give the lines of plugstack.conf among the facts."""
    return Plugstack.of(*facts["plugstack"])


def is_configless(facts: Facts) -> bool:
    """Whether slurmctld hands Slurm's files out."""
    return "enable_configless" in facts["slurm"]["settings"].get("slurmctldparameters", "").lower()


def is_of_head(path: str, facts: Facts) -> bool:
    """Whether one of Slurm's files is the head node's: nodes get it from there, or see it there."""
    mount = mount_of(path, mounts(facts))
    is_handed_out = is_configless(facts) and path.startswith(f"{os.path.dirname(facts['slurm']['conf'])}/")
    return is_handed_out or (mount is not None and mount.is_shared)


def told_where(finding: Finding, path: str, facts: Facts) -> Finding:
    """Say of a finding about one of Slurm's files that its command is for the head node, where this is another."""
    if HEAD in facts[ROLES] or not is_of_head(path, facts):
        return finding
    return finding._replace(why=f"{finding.why} It is the head node's file: run the command there.")


def installer() -> list[str]:
    """Give the words that install a package on this machine."""
    return ["apt-get", "install"] if find_program("apt-get") else ["dnf", "install"]


def _gather_slurm(context: Context, facts: Facts) -> Any:
    conf = os.environ.get("SLURM_CONF") or next((path for path in (*PLACES, *CACHES) if os.path.exists(path)), "")
    try:
        settings = parse_settings(ask(["scontrol", "show", "config"]))
        said = settings.get("slurm_conf", "")
        # It is slurmctld's: a node of a configless cluster has a copy elsewhere.
        conf = said if os.path.exists(said) or not conf else conf
        return {"settings": settings, "conf": conf, "reason": "", "is_here": True}
    except SlurmUnavailable as error:
        is_here = shutil.which("scontrol") is not None or shutil.which("scontrol", path=_PATH) is not None
        settings = settings_of(read_slurm_conf(conf)) if conf else {}
        return {"settings": settings, "conf": conf, "reason": error.message, "is_here": is_here}


def _gather_version(context: Context, facts: Facts) -> Any:
    return ask(["scontrol", "-V"]).split()[-1]


def _gather_mounts(context: Context, facts: Facts) -> Any:
    return read_mounts(context.proc)


def _gather_plugstack(context: Context, facts: Facts) -> Any:
    slurm = facts["slurm"]
    path = slurm["settings"].get("plugstackconfig", "")
    beside = f"{os.path.dirname(slurm['conf']) or '/etc/slurm'}/plugstack.conf"
    # On a node of a configless cluster, what slurmctld goes by is not here, and a copy of it is beside slurm.conf's.
    is_here = path not in UNSET and (os.path.exists(path) or not os.path.exists(beside))
    return read_plugstack(path if is_here else beside)


def _gather_daemons(context: Context, facts: Facts) -> Any:
    """Give those of Slurm's daemons that run here."""
    names = set()
    for entry in os.listdir(context.proc):
        if entry.isdigit():
            try:
                # Not its comm: after scontrol reconfigure, from 24.11 on, that is the file's name: Debian's slurmd-wlm.
                with open(f"{context.proc}/{entry}/cmdline", "rb") as file:
                    names.add(os.path.basename(file.read(1 << 12).partition(b"\0")[0]).decode(errors="replace"))
            except OSError:
                continue
    return sorted(names & set(DAEMONS.values()))


def _gather_roles(context: Context, facts: Facts) -> Any:
    """Tell what this machine is: by daemons that run, and by those that Slurm says should."""
    slurm, daemons = facts["slurm"], facts["daemons"]
    # Debian's packages enable both everywhere: what systemd would start tells nothing.
    hosts = re.findall(r"(?:^|,)([^,.(]+)", slurm["settings"].get("slurmctldhost", ""))
    is_head = "slurmctld" in daemons or context.host in hosts
    return [
        role for role, is_so in ((HEAD, is_head), (COMPUTE, "slurmd" in daemons or _is_node(context, slurm))) if is_so
    ]


def _is_node(context: Context, slurm: Mapping[str, Any]) -> bool:
    if slurm["reason"]:
        return False
    try:
        ask(["scontrol", "show", "node", context.node])
    except SlurmUnavailable:
        return False
    return True


PROBES = (
    Probe("daemons", "the list of processes", _gather_daemons),
    Probe(ROLES, "slurmctld", _gather_roles, limit_s=4.0, after=("daemons", "slurm")),
    Probe("mounts", "the kernel's list of mounts", _gather_mounts),
    Probe("slurm", "slurmctld", _gather_slurm, limit_s=5.0),
    Probe("slurm-version", "scontrol", _gather_version, limit_s=4.0),
    Probe("plugstack", "plugstack.conf's folder", _gather_plugstack, after=("slurm",)),
)
