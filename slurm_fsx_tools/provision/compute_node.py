"""The steps of a compute node: what jobs and sessions need on its own disk, also while /fsx is away."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from ..errors import SharedFsUnavailable, SlurmFsxError
from ..files import read_trusted
from .head_node import CLUSTER_CONFIG, cluster_config_step, slurm_steps
from .hooks import hook_steps
from .installation import UNITS as UNIT_FOLDER
from .mounts import is_shared, mounted_for
from .node_exporter import node_exporter_steps
from .plugstack import plugstack_path
from .steps import File, Folder, Service, Withheld

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config.model import Config
    from ..shared_fs import SharedFs
    from .installation import Installation
    from .slurm_conf import SlurmConf
    from .steps import Record, Step

RECORD = "node"
ENROOT = "/etc/enroot"
UNITS = ("slurm-fsx-cleanup.service", "slurm-fsx-cleanup.timer", "slurm-fsx-nccl.service", "slurm-fsx-register.service")

_POLL_S = 1.0


def wait_until_mounted(root: str, shared_fs: SharedFs, wait_s: float, on_wait: Callable[[], None]) -> str:
    """Wait for the shared file system, at most so long; give what is wrong with it then, empty for nothing."""
    end_s = time.monotonic() + wait_s
    told = False
    while mounted_for(root) is None:
        if time.monotonic() >= end_s:
            return f"nothing is mounted at {root}"
        if not told:
            on_wait()
            told = True
        time.sleep(min(_POLL_S, max(end_s - time.monotonic(), 0.01)))
    try:
        shared_fs.look(lambda: list(os.statvfs(root)))
    except (OSError, SharedFsUnavailable) as error:
        return str(error)
    return ""


def compute_node_steps(
    config: Config,
    installation: Installation,
    conf: SlurmConf | None,
    shared_fs: SharedFs,
    record: Record,
    runtime: str,
    problem: str = "",
) -> list[Step]:
    """List the steps of a compute node.

    Args:
        config: The configuration.
        installation: Ours.
        conf: The cluster's slurm.conf; None where there is none to be found, or slurmctld hands it out.
        shared_fs: The shared file system, looked at for the cluster's configuration.
        record: What was done before.
        runtime: As for `plugstack_steps`.
        problem: What is wrong with the shared file system; empty for nothing.

    Raises:
        OSError, SlurmFsxError: our own files cannot be read.
    """
    steps = installation.common_steps()
    steps += _config_steps(config, shared_fs, problem)
    steps += [
        Folder(config["runtime_dir"], accepts_any=True),
        Folder(os.path.dirname(config["containers.state_dir"]), accepts_any=True),
        Folder(config["containers.state_dir"], accepts_any=True),
        File("/etc/profile.d/nccl-shared.sh", _shared(config, installation, "profile.d/nccl-shared.sh")),
    ]
    steps += _enroot_steps(config, installation, record.below(ENROOT))
    steps += [installation.unit(name) for name in UNITS]
    steps += [
        Service("slurm-fsx-cleanup.timer", watches=(f"{UNIT_FOLDER}/slurm-fsx-cleanup.timer",)),
        Service("slurm-fsx-nccl.service", start=False),
        Service("slurm-fsx-register.service", start=False),
    ]
    if config["monitoring.enabled"]:
        steps += node_exporter_steps(config["monitoring.textfile_dir"], record.root)
    return steps + _slurm_steps(conf, installation, runtime)


def _config_steps(config: Config, shared_fs: SharedFs, problem: str) -> list[Step]:
    if problem:
        return cluster_config_step(None, problem)
    path = config.below_fsx(CLUSTER_CONFIG)
    try:
        return cluster_config_step(shared_fs.look(lambda: read_trusted(path).decode()))
    except FileNotFoundError:
        return cluster_config_step(None)
    except (OSError, SlurmFsxError) as error:
        return cluster_config_step(None, str(error))


def _enroot_steps(config: Config, installation: Installation, etc: str) -> list[Step]:
    if not os.path.isdir(etc):
        return []
    steps: list[Step] = []
    for folder, mode in (("mounts.d", 0o644), ("hooks.d", 0o755)):
        steps.append(Folder(f"{ENROOT}/{folder}", accepts_any=True))
        for name in sorted(os.listdir(f"{installation.share}/enroot/{folder}")):
            data = _shared(config, installation, f"enroot/{folder}/{name}")
            steps.append(File(f"{ENROOT}/{folder}/{name}", data, mode))
    return steps


def _slurm_steps(conf: SlurmConf | None, installation: Installation, runtime: str) -> list[Step]:
    """List the steps for Slurm's own files: none for those that other machines share with this one."""
    if conf is None:
        return slurm_steps(conf, installation, runtime)
    steps: list[Step] = []
    path = plugstack_path(conf)
    if conf.is_copy:
        steps.append(
            Withheld("plugstack.conf", "slurmctld hands plugstack.conf out: it is the head node's", keeps=False)
        )
    elif is_shared(path, conf.root):
        steps.append(Withheld("plugstack.conf", f"{path} is shared between nodes: it is the head node's", keeps=False))
    else:
        steps += slurm_steps(conf, installation, runtime)
    hooks = hook_steps(conf, installation.share, edit=False)
    shared = next((step.path for step in hooks if isinstance(step, File) and is_shared(step.path, conf.root)), "")
    if shared:
        return [*steps, Withheld("hooks", f"{shared} is shared between nodes: it is the head node's", keeps=False)]
    return [*steps, *hooks]


def _shared(config: Config, installation: Installation, name: str) -> bytes:
    """Give a file of ours for where NCCL is on this cluster, as `nccl apply-here` writes it."""
    return installation.read(name).replace(b"/fsx/nccl", config.below_fsx("nccl").encode())
