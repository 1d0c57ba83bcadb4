"""The configuration for Amazon's CloudWatch agent that is appended to what ParallelCluster has given it.

The agent merges its files: lists of logs are joined, and any other key that two files give different values is an
error that ends it, also for the other file. So what others have said already is left out here, with a note.
Source: CloudWatch agent, "Multiple CloudWatch agent configuration files", and its translator's merge rules.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

from ...errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ...config.model import Config

HEAD = "head"
COMPUTE = "compute"
NODE_TYPES = (HEAD, COMPUTE)

SCHEMA = os.path.join(os.path.dirname(__file__), "schema.json")

SYSLOG_FILES = ("/var/log/syslog", "/var/log/messages")
"""Where rsyslog writes on Debian and Ubuntu, and on Amazon Linux and Red Hat."""

SYSLOG_TAG = "slurm-fsx"
"""The name that prolog, epilog and the plugins in Slurm give syslog."""

JOURNALD_VERSION = (1, 300070)
"""The first release of the agent that reads systemd's journal; earlier ones refuse such a configuration."""

_SLURM_TIME = "%Y-%m-%dT%H:%M:%S.%f"
_OUR_TIME = "%Y-%m-%dT%H:%M:%S%z"
# Source: CloudWatch Logs API, CreateLogGroup and CreateLogStream; PutMetricData.
_LOG_GROUP = re.compile(r"[A-Za-z0-9._/#-]{1,512}")
_NAMESPACE = re.compile(r"(?!AWS/)[A-Za-z0-9._/#:-]{1,255}")
_STREAM_CHARACTERS = re.compile(r"[^A-Za-z0-9._-]")
_PARALLELCLUSTER_GROUP = "/aws/parallelcluster/"


class LogFile(NamedTuple):
    """A file, or a pattern of files, whose lines are sent."""

    stream: str
    """The last part of the log stream's name."""

    path: str
    time_format: str = ""
    """As the agent takes it; where empty, a line's time is when it was read."""

    is_pattern: bool = False
    """Each file that the pattern names gets a stream; else only the newest would be followed."""


# Both places of each: ParallelCluster's, and Debian's. The agent waits for a file that is not there.
_SLURM_LOGS = {
    HEAD: tuple(
        LogFile(daemon, f"{folder}/{daemon}.log", _SLURM_TIME)
        for daemon in ("slurmctld", "slurmdbd")
        for folder in ("/var/log", "/var/log/slurm")
    ),
    COMPUTE: tuple(LogFile("slurmd", f"{folder}/slurmd.log", _SLURM_TIME) for folder in ("/var/log", "/var/log/slurm")),
}


@dataclass(frozen=True)
class Others:
    """What the agent's other configuration files say."""

    log_files: Mapping[str, str] = field(default_factory=dict)
    """Path or pattern of each log file that is collected, to its log group."""

    metrics: Mapping[str, Any] | None = None
    """Their sections ``metrics``, merged; None where there is none."""

    @classmethod
    def read(cls, configurations: Sequence[Mapping[str, Any]]) -> Others:
        """Take it from the files' contents; what has another shape than the agent wants is passed over."""
        log_files: dict[str, str] = {}
        metrics: dict[str, Any] | None = None
        for content in configurations:
            for entry in _get(content, "logs", "logs_collected", "files", "collect_list") or ():
                if isinstance(entry, dict) and isinstance(entry.get("file_path"), str):
                    log_files[entry["file_path"]] = str(entry.get("log_group_name", ""))
            section = _get(content, "metrics")
            if isinstance(section, dict):
                collected = {
                    **((metrics or {}).get("metrics_collected") or {}),
                    **(section.get("metrics_collected") or {}),
                }
                metrics = {**(metrics or {}), **section, "metrics_collected": collected}
        return cls(log_files, metrics)

    def collect(self, path: str) -> bool:
        """Whether a file, or all that a pattern names, is collected."""
        return any(path == pattern or fnmatchcase(path, pattern) for pattern in self.log_files)


class Node(NamedTuple):
    """The node that the configuration is for."""

    kind: str
    """One of `NODE_TYPES`."""

    host: str
    """First part of the names of its log streams."""

    cluster: str
    syslog: str = ""
    """The file that rsyslog writes; empty where there is none."""

    agent_version: tuple[int, ...] = ()


class Rendered(NamedTuple):
    """A configuration, and what an admin should know about it."""

    config: dict[str, Any]
    notes: tuple[str, ...]

    def text(self) -> str:
        """Give the file's content: the same configuration gives the same text."""
        return json.dumps(self.config, indent=2, sort_keys=True) + "\n"


def cloudwatch_config(node: Node, config: Config, others: Others | None = None) -> Rendered:
    """Render the agent's configuration for a node.

    Args:
        node: What is known of it.
        config: The keys ``cloudwatch.…`` and ``fsx.root``.
        others: What the agent is told by others.

    Raises:
        ConfigError: CloudWatch takes no such log group or namespace, or the cluster has no name.
    """
    others = others or Others()
    notes: list[str] = []
    group = log_group(node.cluster, config, others)
    logs = _logs(node, config, group, others, notes)
    rendered: dict[str, Any] = {}
    if logs:
        rendered["logs"] = {"logs_collected": logs}
    metrics = _metrics(node, config, others, notes)
    if metrics:
        rendered["metrics"] = metrics
    return Rendered(rendered, tuple(notes))


def log_group(cluster: str, config: Config, others: Others) -> str:
    """Name the log group: the configured one, ParallelCluster's own of this cluster, or the one by the cluster's name.

    ParallelCluster adds the time of creation to the name of its own, and its nodes may make no other group.

    Raises:
        ConfigError: CloudWatch takes no such name.
    """
    group = str(config["cloudwatch.log_group"])
    if not group and not cluster:
        raise ConfigError("the cluster has no name", hint="set cluster.name, or cloudwatch.log_group")
    if not group:
        group = _PARALLELCLUSTER_GROUP + cluster
        theirs = re.compile(re.escape(group) + r"-\d{12}")
        group = next((name for name in others.log_files.values() if theirs.fullmatch(name)), group)
    if not _LOG_GROUP.fullmatch(group):
        raise ConfigError(
            f"CloudWatch takes no log group {group!r}", hint="set cloudwatch.log_group to letters, digits and ._/#-"
        )
    return group


def _logs(node: Node, config: Config, group: str, others: Others, notes: list[str]) -> dict[str, Any]:
    files = list(_SLURM_LOGS[node.kind])
    if node.kind == HEAD:
        # Shared: from every node, each line would be sent and paid for as often as there are nodes.
        files += [
            LogFile("container-downloads", config.below_fsx("logs", "ngc-download.log"), _OUR_TIME),
            LogFile("container-downloads", config.below_fsx("logs", "container-downloads", "*.log"), _OUR_TIME, True),
            LogFile("nccl-installs", config.below_fsx("logs", "nccl", "**.log"), "", True),
        ]
    entries = []
    for file in files:
        if others.collect(file.path):
            notes.append(f"{file.path} is collected already: left out")
        else:
            entries.append(_entry(node, group, file))
    logs: dict[str, Any] = {}
    if node.syslog and others.collect(node.syslog):
        notes.append(f"{node.syslog} is collected already, with what prolog and epilog say ({SYSLOG_TAG}): left out")
    elif node.syslog:
        # Only our own lines.
        filters = [{"type": "include", "expression": rf"\b{SYSLOG_TAG}(\[\d+\])?:"}]
        entries.append({**_entry(node, group, LogFile(SYSLOG_TAG, node.syslog)), "filters": filters})
    elif node.agent_version >= JOURNALD_VERSION:
        stream = _stream(node, SYSLOG_TAG)
        matches = [{"SYSLOG_IDENTIFIER": SYSLOG_TAG}]
        logs["journald"] = {
            "collect_list": [{"log_group_name": group, "log_stream_name": stream, "matches": matches}],
        }
    else:
        notes.append(
            f"what prolog and epilog say is not collected: there is no {' or '.join(SYSLOG_FILES)}, and only agents"
            f" from {'.'.join(map(str, JOURNALD_VERSION))} read systemd's journal; install rsyslog, or a newer agent"
        )
    if entries:
        logs["files"] = {"collect_list": entries}
    return logs


def _entry(node: Node, group: str, file: LogFile) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "file_path": file.path,
        "log_group_name": group,
        "log_stream_name": _stream(node, file.stream),
    }
    if file.time_format:
        entry["timestamp_format"] = file.time_format
    if file.is_pattern:
        entry["publish_multi_logs"] = True
    return entry


def _stream(node: Node, name: str) -> str:
    """Name a log stream as ParallelCluster names its own: HOST.INSTANCE.NAME."""
    return f"{_STREAM_CHARACTERS.sub('_', node.host)[:200]}.{{instance_id}}.{name}"


def _metrics(node: Node, config: Config, others: Others, notes: list[str]) -> dict[str, Any]:
    namespace = config["cloudwatch.namespace"]
    if not _NAMESPACE.fullmatch(namespace):
        raise ConfigError(
            f"CloudWatch takes no namespace {namespace!r}",
            hint="set cloudwatch.namespace to letters, digits and ._/#:-, not beginning with AWS/",
        )
    interval_s = max(1, round(config["cloudwatch.interval"]))
    common: dict[str, Any] = {"metrics_collection_interval": interval_s}
    if node.cluster:
        common["append_dimensions"] = {"ClusterName": node.cluster}
    wanted: dict[str, Any] = {
        # Without resources: one series for all processors together, not one for each.
        "cpu": {"measurement": ["cpu_usage_active", "cpu_usage_iowait"], "totalcpu": True, **common},
        "mem": {"measurement": ["mem_used_percent", "mem_available"], **common},
        "disk": {
            "measurement": ["disk_used_percent", "disk_free"],
            "resources": ["/", config["fsx.root"].rstrip("/") or "/"],
            # Or a node's series would end where its device gets another name.
            "drop_device": True,
            **common,
        },
    }
    wanted["disk"]["resources"] = list(dict.fromkeys(wanted["disk"]["resources"]))
    if others.metrics is None:
        return {
            "namespace": namespace,
            "append_dimensions": {"InstanceId": "${aws:InstanceId}", "InstanceType": "${aws:InstanceType}"},
            "metrics_collected": wanted,
        }
    # The namespace and the dimensions are one for all of the agent's metrics: alarms that watch the others' would go
    # blind where ours changed them. ParallelCluster's head node has alarms on its memory and disk in CWAgent.
    theirs = others.metrics.get("namespace", "CWAgent")
    if theirs != namespace:
        notes.append(
            f"metrics go to the namespace {theirs}, not {namespace}: the agent has others' metrics, and only one"
        )
    taken = sorted(set(wanted) & set(others.metrics["metrics_collected"]))
    notes += [f"metrics of {name} are collected already: left out" for name in taken]
    left = {name: value for name, value in wanted.items() if name not in taken}
    return {"metrics_collected": left} if left else {}


def check_config(content: object) -> None:
    """Raise ConfigError where the agent would not take a configuration: by the schema, if jsonschema is installed.

    Without it, only what must be there is looked for.
    """
    try:
        import jsonschema
    except ImportError:
        problem = _plain_problem(content)
    else:
        with open(SCHEMA, encoding="utf-8") as file:
            validator = jsonschema.Draft7Validator(json.load(file))
        found = jsonschema.exceptions.best_match(validator.iter_errors(content))
        problem = f"{found.json_path}: {found.message}" if found is not None else ""
    if problem:
        raise ConfigError(f"CloudWatch's agent takes no such configuration: {problem}", hint="report this")


def _plain_problem(content: object) -> str:
    if not isinstance(content, dict) or not content:
        return "it is no object, or an empty one"
    if set(content) - {"agent", "logs", "metrics"}:
        return f"unknown sections {sorted(set(content) - {'agent', 'logs', 'metrics'})}"
    if "metrics" in content and not _get(content, "metrics", "metrics_collected"):
        return "no metrics_collected in metrics"
    if "logs" in content and not _get(content, "logs", "logs_collected"):
        return "no logs_collected in logs"
    entries = _get(content, "logs", "logs_collected", "files", "collect_list")
    if entries is not None and not all(isinstance(entry, dict) and entry.get("file_path") for entry in entries):
        return "a log file without file_path"
    return ""


def _get(content: object, *keys: str) -> Any:
    """Give what stands at a path of keys; None where something on it is missing or no object."""
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content
