"""The keys of the configuration: type, default, unit and meaning of each, in one table."""

from __future__ import annotations

from ..values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class Setting(NamedTuple):
    """One key of the configuration."""

    key: str
    """Dotted, e.g. ``fsx.timeout``."""

    kind: str
    """``str``, ``path``, ``optional path`` (empty for none), ``seconds``, ``days``, ``count`` (1 and up), ``size`` (in
    bytes; ``500 GiB`` in the file), ``port``, ``bool``, ``choice``, ``list`` (of str), ``map`` (of str to str),
    ``instance type`` (empty for unknown), ``profile`` (one of `choices`, or of ``nccl.profiles``) or ``profiles`` (name
    to variables with values; `choices` are taken names).
    """

    default: Any
    help: str
    choices: tuple[str, ...] = ()


PROFILES = ("documented", "auto", "minimal")
"""The built-in sets of NCCL and EFA variables."""

SETTINGS = (
    Setting("fsx.root", "path", "/fsx", "Where the shared file system is mounted."),
    Setting("fsx.timeout", "seconds", 2.0, "How long a prolog waits for an answer of the shared file system."),
    Setting("cluster.name", "str", "", "Name of the cluster in metrics; Slurm's ClusterName where empty."),
    Setting("runtime_dir", "path", "/run/slurm-fsx", "Local folder, root's, for what lives as long as a job."),
    Setting(
        "containers.aliases",
        "map",
        {},
        "Short names that you define: NAME: URI, e.g. pytorch: nvcr.io/nvidia/pytorch:24.03-py3.",
    ),
    Setting(
        "containers.prefer",
        "list",
        ["nvcr.io/nvidia"],
        "Namespaces, best first: which one a short name means where several have the same repository.",
    ),
    Setting(
        "containers.unknown_name",
        "choice",
        "pass",
        "What becomes of a submission whose name has no image: Pyxis decides (pass), or it is refused (reject).",
        ("pass", "reject"),
    ),
    Setting(
        "containers.architecture",
        "choice",
        "auto",
        "The nodes' processors, for which images are imported; those of the importing machine with auto.",
        ("auto", "amd64", "arm64"),
    ),
    Setting("containers.jobs", "count", 2, "How many images are imported at a time."),
    Setting(
        "containers.registry_slots",
        "count",
        4,
        "How many images the whole cluster takes from one registry at a time; more wait for their turn. The own "
        "cache of each user has as many slots of its own.",
    ),
    Setting(
        "containers.http_registries",
        "list",
        [],
        "Registries that users' own images come from by plain HTTP, e.g. localhost:5000: whoever is on the wire can "
        "read and change what they send.",
    ),
    Setting(
        "containers.scratch",
        "path",
        "/var/tmp",  # noqa: S108  # a folder is made in there, which nobody else can enter
        "Local folder where an import unpacks an image; where it has no room, the shared file system is taken.",
    ),
    Setting(
        "containers.prepare",
        "choice",
        "mount",
        "How named containers start: from a mounted image at once (mount; unpack where a node has no FUSE), unpacked "
        "before the step starts (unpack), or as Pyxis does without us (off).",
        ("mount", "unpack", "off"),
    ),
    Setting(
        "containers.state_dir",
        "path",
        "/var/lib/slurm-fsx/containers",
        "Local folder, root's, for what containers write: it must be on the node's own disk.",
    ),
    Setting(
        "containers.keep_writes",
        "days",
        7.0,
        "How long a global container's writes are kept after its last job, before cleanup removes them.",
    ),
    Setting(
        "containers.writes_limit",
        "size",
        200 << 30,
        "How much the writes of unused containers may take on a node, before cleanup removes the oldest.",
    ),
    Setting(
        "containers.stage", "optional path", "", "Folder on node-local disk for copies of images; none where empty."
    ),
    Setting("containers.stage_limit", "size", 500 << 30, "How much the local copies of images may take on a node."),
    Setting("nccl.enabled", "bool", True, "Whether jobs get the NCCL environment of the installation in FSX/nccl."),
    Setting(
        "nccl.profile",
        "profile",
        "documented",
        "Which set of NCCL and EFA variables jobs get: a built-in one, or one of nccl.profiles.",
        PROFILES,
    ),
    Setting(
        "nccl.profiles",
        "profiles",
        {},
        "Sets of variables that you define: NAME: {VARIABLE: VALUE}, e.g. quiet: {NCCL_DEBUG: WARN}.",
        (*PROFILES, "off"),
    ),
    Setting(
        "nccl.instance_type",
        "instance type",
        "",
        "The nodes' EC2 instance type, for profile auto, e.g. p5.48xlarge; what the node's set-up found, where empty.",
    ),
    Setting(
        "nccl.fail_fast",
        "bool",
        False,
        "Whether a job that does not get EFA stops (by NCCL_NET), instead of running on sockets.",
    ),
    Setting(
        "nccl.in_container",
        "choice",
        "auto",
        "Whether containers get the library path: only where the image has no NCCL (auto), always, or never.",
        ("auto", "always", "never"),
    ),
    Setting(
        "nccl.apply_by",
        "choice",
        "srun",
        "How `nccl apply` reaches running nodes: by small jobs (srun), or by ClusterShell over ssh.",
        ("srun", "ssh"),
    ),
    Setting("nccl.fan_out", "count", 64, "How many nodes `nccl apply` works on at a time."),
    Setting("nccl.node_timeout", "seconds", 60.0, "How long `nccl apply` waits for one node."),
    Setting(
        "nccl.state_dir",
        "path",
        "/var/lib/slurm-fsx/nccl",
        "Local folder, root's, for what `nccl apply --failed` goes by.",
    ),
    Setting("monitoring.enabled", "bool", True, "Whether nodes register their exporters with Prometheus."),
    Setting("monitoring.node_exporter_port", "port", 9100, "Where node_exporter listens on each node."),
    Setting("monitoring.dcgm_exporter_port", "port", 9400, "Where dcgm-exporter listens on each node with a GPU."),
    Setting(
        "monitoring.textfile_dir",
        "path",
        "/var/lib/prometheus/node-exporter",
        "Local folder that node_exporter's textfile collector reads: --collector.textfile.directory.",
    ),
    Setting(
        "monitoring.gpu_mapping_dir",
        "optional path",
        "",
        "Local folder that dcgm-exporter reads jobs from: DCGM_HPC_JOB_MAPPING_DIR. Off where empty: its label "
        "multiplies every GPU's series by jobs, and slurm_fsx_job_gpu_info joins without that.",
    ),
    Setting(
        "monitoring.state_dir",
        "path",
        "/var/lib/slurm-fsx/monitoring",
        "Local folder, root's, for what the head node's `monitoring sync` has seen.",
    ),
    Setting("monitoring.label_limit", "count", 128, "How many characters of a job's name or account a metric carries."),
    Setting("monitoring.prometheus_url", "str", "http://127.0.0.1:9090", "Where commands ask Prometheus."),
    Setting(
        "monitoring.prometheus_listen",
        "str",
        "127.0.0.1:9090",
        "Where the Prometheus that is set up here listens: it asks nobody for a password, so on loopback.",
    ),
    Setting("monitoring.scrape_interval", "seconds", 15.0, "How often Prometheus asks each exporter."),
    Setting(
        "monitoring.refresh_interval",
        "seconds",
        30.0,
        "How often Prometheus reads the nodes' files of targets: on Lustre nothing tells it that they have changed.",
    ),
    Setting("monitoring.alertmanagers", "list", [], "Where Prometheus sends its alerts: HOST:PORT each."),
    Setting("monitoring.retention", "days", 30.0, "How long the Prometheus that is set up here keeps samples."),
    Setting(
        "cloudwatch.log_group",
        "str",
        "",
        "CloudWatch's log group; /aws/parallelcluster/CLUSTER where empty.",
    ),
    Setting("cloudwatch.namespace", "str", "ParallelCluster", "CloudWatch's namespace of metrics."),
    Setting("cloudwatch.interval", "seconds", 60.0, "How often CloudWatch's agent takes metrics."),
    Setting("prolog.deadline", "seconds", 10.0, "How long a whole prolog or epilog of ours may take."),
    Setting("prolog.plugin_timeout", "seconds", 3.0, "How long one plugin may take in one hook."),
    Setting("prolog.plugins_dir", "path", "/etc/slurm-fsx/plugins.d", "Folder of single-file site plugins, root's."),
    Setting("prolog.block", "list", [], "Built-in plugins that stay off, e.g. monitoring."),
)
DEFAULTS: dict[str, Any] = {setting.key: setting.default for setting in SETTINGS}


class Config:
    """The configuration's values, by dotted key.

    Raises:
        KeyError: a key that is in no `Setting`: a mistake in the program, never in the file.
    """

    __slots__ = ("_values", "path", "policy")

    def __init__(self, values: Mapping[str, Any] | None = None, path: str = "", policy: str = "default") -> None:
        given = dict(values or {})
        for key in given:
            if key not in DEFAULTS:
                raise KeyError(key)
        self._values: dict[str, Any] = {**DEFAULTS, **given}
        self.path = path
        """The YAML file behind the values; empty where there is none."""
        self.policy = policy
        """A word that changes whenever the meaning of a container's name may: an index made under another is stale."""

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def below_fsx(self, *parts: str) -> str:
        """Give a path below the shared file system's root."""
        return "/".join((self._values["fsx.root"].rstrip("/"), *parts))

    def as_dict(self) -> dict[str, Any]:
        """Give every key with its value, in the table's order."""
        return dict(self._values)


def is_profile_name(text: str) -> bool:
    """Whether a profile may be called this: what users can write behind ``--nccl=`` (``spank/name.c``)."""
    return 0 < len(text) <= 64 and text.isascii() and text[0].isalnum() and all(c.isalnum() or c in "._-" for c in text)


def is_instance_type(text: str) -> bool:
    """Whether a text looks like an EC2 instance type, e.g. ``p6-b200.48xlarge``."""
    family, dot, size = text.partition(".")
    words = (*family.split("-"), *size.split("-"))
    return bool(dot) and len(text) <= 64 and all(word.isascii() and word.isalnum() for word in words)


class Snapshot(NamedTuple):
    """A configuration, and what else a prolog must know before it can load plugins."""

    config: Config
    entry_points: tuple[tuple[str, str], ...]
    """Name and module of each plugin that an installed distribution offers."""

    key: str
    """What the configuration file was when this was compiled."""

    plugin_folders: dict[str, int]
    """Folders that plugins come from, with their modification times in ns."""
