"""Checks of Slurm's settings: what they must be for prologs, containers and the environment to reach jobs."""

from __future__ import annotations

import glob
import os
import re
import stat
from typing import TYPE_CHECKING, Any

from ...node_sets import fold
from .basics import DAEMONS, UNSET, ask, plugstack, seconds, told_where
from .engine import ROLES
from .findings import COMPUTE, HEAD, NOTE, PROBLEM, WARNING, Check, Finding, Probe, Trouble, Unseen

if TYPE_CHECKING:
    from .findings import Context, Facts

_MANUAL = "https://slurm.schedmd.com/slurm.conf.html"
_GUIDE = "https://slurm.schedmd.com/prolog_epilog.html"
_PARALLELCLUSTER = "/opt/slurm/etc/"
"""Where ParallelCluster has slurm.conf, and others may have theirs. Source: its cookbook, slurm_install_dir."""

_EFFECTS = {"slurmctld": "No job starts", "slurmd": "This node takes no jobs"}
_DRAINED = re.compile(r"prolog|epilog|kill task failed", re.IGNORECASE)

NO_SLURM = Trouble(
    PROBLEM,
    "Slurm's commands are not here.",
    "Neither jobs nor this software's commands about nodes can be run from this machine.",
)
NO_ANSWER = Trouble(
    PROBLEM,
    "slurmctld gives no answer: {reason}.",
    "No job starts until it does. The settings below are those of {conf}.",
    "scontrol ping; systemctl status slurmctld munge",
    "https://slurm.schedmd.com/troubleshoot.html",
)
NO_CONF = Trouble(
    PROBLEM,
    "Slurm's commands find no slurm.conf here: {reason}.",
    "Nothing of Slurm works from this machine. Put the cluster's slurm.conf into /etc/slurm, or name it by SLURM_CONF.",
    "",
    _MANUAL,
)
NO_DAEMON = Trouble(
    PROBLEM,
    "{daemon} should run here, and does not.",
    "{effect}. Its log, /var/log/slurm/{daemon}.log mostly, says why.",
    "systemctl restart {daemon}",
    "https://slurm.schedmd.com/troubleshoot.html",
)
CONF_DIFFERS = Trouble(
    PROBLEM,
    "slurm.conf here is not the one that slurmctld has read.",
    "Nodes then disagree on prologs, ports and plugins, in ways that look like something else.",
    "scontrol reconfigure",
    _MANUAL,
)
TASK_PROLOG = Trouble(
    PROBLEM,
    "TaskProlog={script} is set, and Pyxis is loaded.",
    "It runs after Pyxis has entered the container: where the image lacks it, every container step fails, on 24.11 "
    "even if it is mounted in. Our SPANK plugin does its work. Remove it from {conf}, then run the command.",
    "scontrol reconfigure",
    "https://github.com/NVIDIA/pyxis/issues/163",
)
TASK_PROLOG_TWICE = Trouble(
    NOTE,
    "TaskProlog runs our script, and the SPANK plugin is loaded, too.",
    "The plugin does the same with no process a task: the line in {conf} can go.",
    "scontrol reconfigure",
)
NO_TIME_LIMIT = Trouble(
    NOTE,
    "{setting} is not set.",
    "Slurm waits for ever for a prolog or epilog that hangs, ours or another one. Ours end within "
    "prolog.deadline, {deadline:g} s. Write {setting}=60 or more into {conf}, then run the command.",
    "scontrol reconfigure",
    _MANUAL,
)
TOO_SHORT = Trouble(
    PROBLEM,
    "{setting} is {seconds:g} s, and a prolog of ours may take {deadline:g} s.",
    "Slurm drains the node when that time is over. Set {setting} to {least:g} s or more in {conf}, and run the "
    "command, or set prolog.deadline to less.",
    "scontrol reconfigure",
    _MANUAL,
)
BATCH_START = Trouble(
    WARNING,
    "BatchStartTimeout is {seconds:g} s, and a prolog of ours may take {deadline:g} s.",
    "A batch job starts after the prolog of its first node; one that comes later than this counts as lost, and is "
    "requeued. Set it to {least:g} s or more in {conf}, and run the command, or set prolog.deadline to less.",
    "scontrol reconfigure",
    _MANUAL,
)
MESSAGE = Trouble(
    WARNING,
    "MessageTimeout is {seconds:g} s, and a prolog of ours may take {deadline:g} s.",
    "Slurm expects prologs to end within MessageTimeout. Set it to {least:g} s or more in {conf}, and run the command, "
    "or set prolog.deadline to less.",
    "scontrol reconfigure",
    _MANUAL,
)
UNKILLABLE = Trouble(
    NOTE,
    "UnkillableStepTimeout is {seconds:g} s, less than 5 times MessageTimeout ({message:g} s).",
    "Slurm asks for five times as much: a step that ends slowly, on a slow shared file system say, else drains its "
    "node. Set it to {least:g} s or more in {conf}, and run the command.",
    "scontrol reconfigure",
    _MANUAL,
)
NO_ALLOC = Trouble(
    PROBLEM,
    "PrologFlags has no Alloc; it is {flags}.",
    "A node that runs no step of a job then runs its epilog, but never its prolog, and the first step waits for it. "
    "The command writes PrologFlags=Alloc into {conf}, besides what else is missing for our prolog.",
    "slurm-fsx setup hooks --edit-slurm-conf && scontrol reconfigure",
    _GUIDE,
)
SERIAL = Trouble(
    WARNING,
    "PrologFlags has Serial.",
    "Prologs and epilogs of a node then wait for each other, and a slow one delays all. Take it away in {conf}, and "
    "run the command.",
    "scontrol reconfigure",
    _MANUAL,
)
NO_SCRIPT = Trouble(
    PROBLEM,
    "Slurm's {setting} does not run our script: {patterns} does not have it.",
    "Without the prolog no job gets the NCCL environment and no node registers with Prometheus; without the epilog, "
    "files of ended jobs stay.",
    "slurm-fsx setup hooks",
    _GUIDE,
)
NO_SETTING = NO_SCRIPT._replace(
    text="{setting} is not set, so Slurm does not run our script.",
    command="slurm-fsx setup hooks --edit-slurm-conf && scontrol reconfigure",
)
NOT_RUNNABLE = Trouble(
    PROBLEM,
    "{path} cannot be run (mode {mode}).",
    "Slurm takes that for a failed prolog or epilog, and drains the node.",
    "chmod 755 {path}",
    _GUIDE,
    is_safe=True,
)
STRANGE_FILE = Trouble(
    WARNING,
    "{path} looks like an editor's or installer's left-over, and Slurm reads every file there.",
    "It is run as a prolog, or read as a plugstack.conf: half a file of this kind has failed all jobs of a cluster.",
    "rm {path}",
    "https://github.com/aws/aws-parallelcluster/issues/6459",
)
DRAINED = Trouble(
    WARNING,
    "{nodes} {verb} {state}: {reason}.",
    "They take no jobs until somebody resumes them. See journalctl -t slurm-fsx and slurmd's log there first.",
    "scontrol update nodename={nodes} state=resume",
    _GUIDE,
)


def _gather_nodes(context: Context, facts: Facts) -> Any:
    if facts["slurm"]["reason"]:
        raise Unseen("slurmctld gives no answer")
    # A line for each node and partition, and by nodes' names: their hosts', %n, are others in the cloud.
    answer = ask(["sinfo", "--noheader", "--all", "--Node", "--list-reasons", "--format=%N|%T|%E"])
    return [line.split("|", 2) for line in dict.fromkeys(answer.splitlines())]


def _gather_scripts(context: Context, facts: Facts) -> Any:
    found = {}
    for setting in ("prolog", "epilog"):
        patterns = facts["slurm"]["settings"].get(setting, "")
        for pattern in patterns.split(",") if patterns not in UNSET else []:
            # A relative one is looked for beside slurm.conf, which is how slurmctld hands scripts out.
            for path in sorted(glob.glob(os.path.join(os.path.dirname(facts["slurm"]["conf"]), pattern.strip()))):
                found[path] = _look_at_script(path, setting)
    return found


def _look_at_script(path: str, setting: str) -> dict[str, Any]:
    status = os.stat(path)
    seen = {"setting": setting, "mode": stat.S_IMODE(status.st_mode), "uid": status.st_uid, "is_ours": False}
    if stat.S_ISREG(status.st_mode):
        try:
            with open(path, "rb") as file:
                seen["is_ours"] = f"slurm_fsx_tools.node.{setting}".encode() in file.read(1 << 16)
        except PermissionError:
            seen["is_ours"] = os.path.basename(path) == "50-slurm-fsx"
    return seen


def is_left_over(name: str) -> bool:
    """Whether a file's name is one that editors and installers leave: sed -i's, backups, swap files, rpm's."""
    return bool(
        re.fullmatch(r"sed[A-Za-z0-9]{6}|.*~|\..*\.sw.|#.*#|.*\.(bak|orig|rej|rpmnew|rpmsave|dpkg-\w+|tmp)", name)
    )


def _judge_answers(context: Context, facts: Facts) -> list[Finding]:
    seen = facts["slurm"]
    if not seen["is_here"]:
        return [NO_SLURM.found()]
    if not seen["reason"]:
        return []
    trouble = NO_ANSWER if seen["conf"] else NO_CONF
    return [trouble.found(reason=seen["reason"].rstrip("."), conf=seen["conf"])]


def _judge_daemons(context: Context, facts: Facts) -> list[Finding]:
    return [
        NO_DAEMON.found(daemon=daemon, effect=_EFFECTS[daemon])
        for role, daemon in DAEMONS.items()
        if role in facts[ROLES] and daemon not in facts["daemons"]
    ]


def _judge_same_conf(context: Context, facts: Facts) -> list[Finding]:
    value = facts["slurm"]["settings"].get("hash_val", "Match")
    return [] if value.startswith(("Match", "(null)")) else [CONF_DIFFERS.found()]


def _judge_task_prolog(context: Context, facts: Facts) -> list[Finding]:
    seen = facts["slurm"]
    script = seen["settings"].get("taskprolog", "")
    if script in UNSET:
        return []
    stack = plugstack(facts)
    if stack.pyxis is not None:
        return [TASK_PROLOG.found(script=script, conf=seen["conf"])]
    is_ours = any(line.is_ours for line in stack.lines)
    return [TASK_PROLOG_TWICE.found(conf=seen["conf"])] if is_ours and "task_prolog.d/slurm-fsx" in script else []


def _judge_times(context: Context, facts: Facts) -> list[Finding]:
    settings, conf = _settings(facts)
    deadline_s = context.config["prolog.deadline"]
    least_s = deadline_s + 5
    common = {"deadline": deadline_s, "least": least_s, "conf": conf}
    found = []
    limits = {
        name: seconds(settings, name.lower()) for name in ("PrologTimeout", "EpilogTimeout", "PrologEpilogTimeout")
    }
    # From 25.05 on, PrologEpilogTimeout stands for both.
    if not any(limits.values()):
        found.append(NO_TIME_LIMIT.found(setting="PrologEpilogTimeout", **common))
    found += [
        TOO_SHORT.found(setting=name, seconds=value, **common)
        for name, value in limits.items()
        if value is not None and value < least_s
    ]
    batch_s, message_s = (seconds(settings, key) for key in ("batchstarttimeout", "messagetimeout"))
    if batch_s is not None and batch_s < deadline_s:
        found.append(BATCH_START.found(seconds=batch_s, **common))
    if message_s is not None and message_s < deadline_s:
        found.append(MESSAGE.found(seconds=message_s, **common))
    unkillable_s = seconds(settings, "unkillablesteptimeout")
    if unkillable_s and message_s and unkillable_s < 5 * message_s:
        found.append(UNKILLABLE.found(seconds=unkillable_s, message=message_s, least=5 * message_s, conf=conf))
    return _told_of_parallelcluster(found, conf)


def _judge_flags(context: Context, facts: Facts) -> list[Finding]:
    settings, conf = _settings(facts)
    text = settings.get("prologflags", "")
    flags = {flag.strip().lower() for flag in text.split(",")}
    found = []
    # Contain implies Alloc, as X11 does by way of Contain.
    if not flags & {"alloc", "contain", "x11"}:
        found.append(NO_ALLOC.found(flags=text if text not in UNSET else "not set", conf=conf))
    if "serial" in flags:
        found.append(SERIAL.found(conf=conf))
    return _told_of_parallelcluster(found, conf)


def _told_of_parallelcluster(found: list[Finding], conf: str) -> list[Finding]:
    """Say where settings have their place on ParallelCluster, whose tools write slurm.conf."""
    if not conf.startswith(_PARALLELCLUSTER):
        return found
    place = " On ParallelCluster, CustomSlurmSettings in the cluster's configuration is the place for it."
    return [finding._replace(why=finding.why + place) for finding in found]


def _judge_scripts(context: Context, facts: Facts) -> list[Finding]:
    settings, conf = _settings(facts)
    scripts: dict[str, dict[str, Any]] = facts["scripts"]
    found = []
    for setting in ("Prolog", "Epilog"):
        patterns = settings.get(setting.lower(), "")
        if not any(each["is_ours"] and each["setting"] == setting.lower() for each in scripts.values()):
            trouble = NO_SETTING if patterns in UNSET else NO_SCRIPT
            finding = trouble.found(setting=setting, patterns=patterns)
            folder = os.path.dirname(conf)
            place = conf if trouble is NO_SETTING else os.path.join(folder, patterns.partition(",")[0])
            found.append(told_where(finding, place, facts))
    for path, each in scripts.items():
        if is_left_over(os.path.basename(path)):
            found.append(STRANGE_FILE.found(path=path))
        elif not each["mode"] & stat.S_IXUSR:
            found.append(NOT_RUNNABLE.found(path=path, mode=f"{each['mode']:04o}"))
    return found


def _judge_nodes(context: Context, facts: Facts) -> list[Finding]:
    groups: dict[tuple[str, str], list[str]] = {}
    for name, state, reason in facts["slurm-nodes"]:
        if _DRAINED.search(reason):
            groups.setdefault((state.rstrip("*~#!%$@^-"), reason), []).append(name)
    return [
        DRAINED.found(nodes=fold(names), verb="is" if len(set(names)) == 1 else "are", state=state, reason=reason)
        for (state, reason), names in groups.items()
    ]


def _settings(facts: Facts) -> tuple[dict[str, str], str]:
    """Give the settings, and the file to change them in.

    Raises:
        Unseen: neither slurmctld nor a file tells them.
    """
    seen = facts["slurm"]
    if not seen["settings"]:
        raise Unseen("there is no slurm.conf here, or nothing in it")
    return seen["settings"], seen["conf"] or "slurm.conf"


PROBES = (
    Probe("scripts", "the folder of prologs", _gather_scripts, after=("slurm",)),
    Probe("slurm-nodes", "sinfo", _gather_nodes, limit_s=4.0, after=("slurm",)),
)
CHECKS = (
    Check("slurm-answers", "slurmctld answers", ("slurm",), _judge_answers, (NO_SLURM, NO_CONF, NO_ANSWER)),
    Check(
        "slurm-daemons",
        "the daemons that Slurm says are here run",
        (ROLES, "daemons"),
        _judge_daemons,
        (NO_DAEMON,),
    ),
    Check("slurm-conf", "slurm.conf here is slurmctld's", ("slurm",), _judge_same_conf, (CONF_DIFFERS,)),
    Check(
        "slurm-nodes",
        "no node was drained by a prolog, an epilog or a step that would not die",
        ("slurm-nodes",),
        _judge_nodes,
        (DRAINED,),
        HEAD,
        is_of_cluster=True,
    ),
    Check(
        "prolog-scripts",
        "Slurm runs our prolog and epilog, and nothing by mistake",
        ("slurm", "scripts", "mounts", ROLES),
        _judge_scripts,
        (NO_SCRIPT, NO_SETTING, NOT_RUNNABLE, STRANGE_FILE),
        COMPUTE,
    ),
    Check(
        "prolog-times",
        "Slurm's time limits leave room for a prolog",
        ("slurm",),
        _judge_times,
        (NO_TIME_LIMIT, TOO_SHORT, BATCH_START, MESSAGE, UNKILLABLE),
        is_of_cluster=True,
    ),
    Check(
        "prolog-flags",
        "prologs run when a job gets its nodes",
        ("slurm",),
        _judge_flags,
        (NO_ALLOC, SERIAL),
        is_of_cluster=True,
    ),
    Check(
        "task-prolog",
        "no TaskProlog runs inside containers",
        ("slurm", "plugstack"),
        _judge_task_prolog,
        (TASK_PROLOG, TASK_PROLOG_TWICE),
        is_of_cluster=True,
    ),
)
