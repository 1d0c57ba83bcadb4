"""The steps of a head node: the tree on the shared file system with its files, Slurm's plugin, the sync timer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..errors import NotHere, SharedFsUnavailable, SlurmFsxError
from .installation import CONFIG
from .mounts import mounted_for
from .plugstack import plugstack_steps
from .steps import File, Folder, Service, Withheld
from .steps.placing import check_folders

if TYPE_CHECKING:
    from ..config.model import Config
    from ..shared_fs import SharedFs
    from .installation import Installation
    from .slurm_conf import SlurmConf
    from .steps import Step

RECORD = "head"
CLUSTER_CONFIG = "config/config.yaml"
"""Below the shared file system: the configuration that `setup node` copies to every node."""

ROOTS, USERS = 0o755, 0o1777
TREE = (
    ("containers", ROOTS),
    ("containers/runtime", ROOTS),
    ("containers/cache", ROOTS),
    ("containers/data", ROOTS),
    ("scripts", ROOTS),
    ("config", ROOTS),
    ("logs", ROOTS),
    ("logs/container-downloads", ROOTS),
    ("logs/slurm", ROOTS),
    ("logs/training", USERS),
    ("nccl", ROOTS),
    ("datasets", USERS),
    ("checkpoints", USERS),
    ("results", USERS),
    ("monitoring", ROOTS),
    ("monitoring/targets", ROOTS),
)
"""Folders below the shared file system, and who writes to them: root, or everybody to his own files."""

TIMERS = ("slurm-fsx-sync", "slurm-fsx-tidy")
"""Units of systemd that a head node runs at an interval."""

_START = """\
# Configuration of slurm-fsx-tools for the whole cluster. `slurm-fsx config show` prints every key with its meaning and
# default; put here what differs. `slurm-fsx setup head` and `slurm-fsx setup node` copy this to /etc/slurm-fsx.
"""


class NotMounted(SlurmFsxError):
    """The shared file system is not there, so that a tree would be made on local disk."""


def check_mounted(root: str, shared_fs: SharedFs, *, allow_unmounted: bool = False) -> None:
    """See that the shared file system is mounted, answers, and is root's: users cannot turn the tree's folders away.

    Args:
        root: Where it should be.
        shared_fs: Looks at it.
        allow_unmounted: Whether an ordinary folder will do; what is mounted must answer all the same.

    Raises:
        NotMounted: it is not mounted; the message says what is there instead.
        SlurmFsxError: somebody else owns it, or everybody may rename what is in there.
    """
    mount = mounted_for(root)
    if mount is None and not allow_unmounted:
        what = "an ordinary folder" if os.path.isdir(root) else "missing"
        raise NotMounted(
            f"nothing is mounted at {root}: it is {what}",
            hint="mount it, or take what is there: --allow-unmounted",
        )
    try:
        shared_fs.look(lambda: _see(root))
    except FileNotFoundError:
        pass  # it will be made
    except (OSError, SharedFsUnavailable) as error:
        where = f"{mount.source} ({mount.kind}) is mounted at {root}" if mount else f"{root} is there"
        raise NotMounted(f"{where}, but does not answer: {error}", hint="mend it first") from None


def _see(root: str) -> None:
    os.statvfs(root)  # asks the file server, where permissions may be remembered
    check_folders(root)


def head_node_steps(
    config: Config,
    installation: Installation,
    conf: SlurmConf | None,
    cluster_config: str | None,
    local_config: str | None,
    runtime: str,
) -> list[Step]:
    """List the steps of a head node.

    Args:
        config: The configuration.
        installation: Ours.
        conf: The cluster's slurm.conf; None where there is none to be found.
        cluster_config: The cluster's configuration on the shared file system; None where there is none yet.
        local_config: The one on this machine, which the cluster's starts with; None where there is none.
        runtime: As for `plugstack_steps`.

    Raises:
        OSError, SlurmFsxError: our own files cannot be read.
    """
    text = cluster_config if cluster_config is not None else local_config or _START
    steps = installation.common_steps()
    steps.append(Folder(config["fsx.root"], accepts_any=True))
    steps += [Folder(config.below_fsx(path), mode) for path, mode in TREE]
    steps += [
        File(config.below_fsx("scripts", name), installation.read(f"scripts/{name}"), 0o755)
        for name in sorted(os.listdir(f"{installation.share}/scripts"))
    ]
    steps.append(File(config.below_fsx("config/containers.txt"), installation.read("containers.txt"), is_start=True))
    steps.append(File(config.below_fsx(CLUSTER_CONFIG), text, is_start=True))
    for name in TIMERS:
        units = [installation.unit(f"{name}.{kind}") for kind in ("service", "timer")]
        steps += [*units, Service(f"{name}.timer", watches=(units[-1].path,))]
    return [*steps, *cluster_config_step(text), *slurm_steps(conf, installation, runtime)]


def slurm_steps(conf: SlurmConf | None, installation: Installation, runtime: str) -> list[Step]:
    """List the steps for plugstack.conf; where there is no Slurm, or nothing that runs containers, say so."""
    if conf is None:
        return [Withheld("plugstack.conf", "there is no slurm.conf here", "name it: SLURM_CONF=PATH slurm-fsx setup …")]
    try:
        return plugstack_steps(conf, installation.home, runtime)
    except NotHere as error:
        return [Withheld("plugstack.conf", error.message, error.hint)]


def cluster_config_step(text: str | None, reason: str = "") -> list[Step]:
    """Give the step that copies the cluster's configuration to this machine's disk, where prologs read it.

    Args:
        text: What it holds; None for a file that is not there.
        reason: Why it could not be read; empty if it could.
    """
    if reason:
        return [Withheld(f"file {CONFIG}", reason, "the configuration on local disk stays as it is", keeps=False)]
    return [] if text is None else [File(CONFIG, text)]
