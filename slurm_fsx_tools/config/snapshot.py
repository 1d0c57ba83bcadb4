"""The compiled configuration: what the prolog and the SPANK plugin read instead of YAML.

``config.json`` carries the values that differ from the defaults, and the list of plugins that installed distributions
offer; ``plugin.conf`` carries the few values that the SPANK plugin needs, one ``key=value`` a line. Both are keyed by
the YAML file's device, inode, size and modification time, so that an edited configuration is never overlooked.
"""

from __future__ import annotations

import os

from .. import json_text
from ..errors import SlurmFsxError
from ..files import read_trusted, write_atomically
from .model import DEFAULTS, PROFILES, Config, Snapshot
from .origin import DEFAULT_PATH, config_key, plugin_folders

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

RUN_DIR = "/run/slurm-fsx"
"""Where the snapshot of the default configuration is, whatever it calls ``runtime_dir``: it is read before that."""

VERSION = 1


def is_current(snapshot: Snapshot, path: str) -> bool:
    """Whether nothing was edited or installed since the snapshot was compiled."""
    return (
        snapshot.config.path == path
        and snapshot.key == config_key(path)
        and snapshot.plugin_folders == plugin_folders(snapshot.config["prolog.plugins_dir"])
    )


def load_snapshot(
    path: str, run_dir: str = "", on_failure: Callable[[str, BaseException], None] | None = None
) -> Snapshot:
    """Give the configuration of a YAML file, compiled again where it changed.

    A process that may write to `run_dir` leaves the snapshot there for the next one. A configuration that cannot be
    used is reported, and the last good one, else the defaults, stand in: a typo must not stop jobs.

    Args:
        path: The YAML file; it may be absent.
        run_dir: The folder of the snapshot. Without it, the default configuration has its own, and another one is
            compiled each time: no prolog reads it.
        on_failure: Told what went wrong; without it, it is raised.

    Raises:
        SlurmFsxError: the YAML cannot be used, and there is no `on_failure`.
    """
    if not run_dir and path == DEFAULT_PATH:
        run_dir = RUN_DIR
    stored = _read(os.path.join(run_dir, "config.json")) if run_dir else None
    if stored is not None and is_current(stored, path):
        return stored
    # The one import of heavy code from the hot path, taken only after an edit or an installation.
    from .source import compile_config

    try:
        snapshot = compile_config(path)
    except (SlurmFsxError, OSError) as error:
        if on_failure is None:
            raise
        on_failure("config", error)
        if stored is not None and stored.config.path == path:
            return stored
        return Snapshot(Config(path=path), (), config_key(path), {})
    try:
        write_snapshot(snapshot, run_dir)
    except OSError:
        pass  # an ordinary user's process, or a full /run: the next one compiles again
    return snapshot


def write_snapshot(snapshot: Snapshot, run_dir: str) -> None:
    """Write ``plugin.conf`` into the configured runtime folder and, where there is a `run_dir`, ``config.json``.

    Raises:
        OSError: a folder cannot be made or written to.
    """
    config = snapshot.config
    document = {
        "version": VERSION,
        "path": config.path,
        "key": snapshot.key,
        "policy": config.policy,
        "values": {key: value for key, value in config.as_dict().items() if value != DEFAULTS[key]},
        "entry_points": snapshot.entry_points,
        "plugin_folders": snapshot.plugin_folders,
    }
    runtime_dir = config["runtime_dir"]
    for folder in {run_dir, runtime_dir} - {""}:
        if not os.path.isdir(folder):
            os.mkdir(folder, 0o755)
    write_atomically(os.path.join(runtime_dir, "plugin.conf"), format_plugin_conf(snapshot).encode())
    if run_dir:
        write_atomically(os.path.join(run_dir, "config.json"), json_text.dumps(document))


def format_plugin_conf(snapshot: Snapshot) -> str:
    """Give the text of ``plugin.conf``, which ``spank/plugin_conf.c`` reads."""
    config = snapshot.config
    containers = config.below_fsx("containers")
    values = {
        "config": config.path,
        "config_key": snapshot.key,
        "fsx_root": config["fsx.root"],
        "containers": containers,
        "index": f"{containers}/.slurm-fsx/index",
        "unknown_name": config["containers.unknown_name"],
        "prepare": config["containers.prepare"],
        "state_dir": config["containers.state_dir"],
        "stage": config["containers.stage"],
        "nccl_profiles": " ".join((*PROFILES, *config["nccl.profiles"])),
        "policy": config.policy,
    }
    return "# slurm-fsx plugin 1\n" + "".join(f"{key}={value}\n" for key, value in values.items())


def _read(path: str) -> Snapshot | None:
    """Read a snapshot; None where there is none that this version understands and root alone could have written."""
    try:
        document: dict[str, Any] = json_text.loads(read_trusted(path))
        if document["version"] != VERSION:
            return None
        return Snapshot(
            Config(document["values"], path=document["path"], policy=document["policy"]),
            tuple((name, value) for name, value in document["entry_points"]),
            document["key"],
            document["plugin_folders"],
        )
    except (OSError, SlurmFsxError, ValueError, KeyError, TypeError):
        return None
