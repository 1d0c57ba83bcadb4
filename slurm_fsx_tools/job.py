"""A job and a node in Slurm's own words; the only reader of ``SLURM_*`` variables.

Source: Slurm Prolog and Epilog Guide, and what slurmd 22.05, 24.11 and 26.05 were seen to pass.
"""

from __future__ import annotations

import os

from .values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

ID_VARIABLE = "SLURM_JOB_ID"
"""Is in the environment of a job, and of its prolog and epilog, and nowhere else."""

_SPANK_OPTION = "SPANK__SLURM_SPANK_OPTION_"


class Node(NamedTuple):
    """A compute node, as the prolog knows it."""

    name: str
    """Slurm's ``NodeName``, which need not be the host's name."""

    cluster: str = ""
    """Slurm's ``ClusterName``; empty where nobody said."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Node:
        """Read the node that a prolog or epilog runs on."""
        return cls(
            name=environ.get("SLURMD_NODENAME") or os.uname().nodename.partition(".")[0],
            cluster=environ.get("SLURM_CLUSTER_NAME", ""),
        )


class Job(NamedTuple):
    """A job, as far as prolog and epilog are told of it.

    What the user typed (name, comment, working directory, options) is hostile input to root: nothing here may become
    a file's name, part of a shell command or a metric's label as it is. `id` is digits and nothing else.
    """

    id: str
    uid: int
    user: str
    """Empty where Slurm gave none; the epilog of some releases does not."""

    partition: str
    node: Node
    node_list: str = ""
    """The nodes in Slurm's range syntax, e.g. ``gpu-[1-4]``."""

    gpus: tuple[str, ...] = ()
    """Indices of this node's GPUs, or ids of MIG devices."""

    account: str = ""
    """Empty where the job was given none."""

    name: str = ""
    """The user's own words; empty in prolog and epilog of Slurm 22.05, 24.11 and 26.05, which are not told it."""

    restart_count: int = 0
    """How often the job was requeued."""

    container: str = ""
    """What the user wrote behind ``--container-name`` at submission, flags included; unknown to the epilog."""

    image: str = ""
    """What the user wrote behind ``--container-image`` at submission; unknown to the epilog."""

    nccl: str = ""
    """What the user wrote behind ``--nccl`` at submission; unknown to the epilog."""

    resolved_image: str = ""
    """The image's path, as the SPANK plugin found it for `container` at submission; a user can forge it."""

    nodes: int = 1
    """How many nodes it has, as far as is known."""

    @property
    def marker(self) -> str:
        """What marks something shared as used by this job: ``CLUSTER.ID``; ``ID`` where no cluster has a plain name.

        The SPANK plugin (spank/catalogue.c) marks images in the same way.
        """
        cluster = self.node.cluster
        is_plain = 0 < len(cluster) <= 64 and all(char.isalnum() or char in "_-" for char in cluster)
        return f"{cluster}.{self.id}" if is_plain and cluster.isascii() else self.id

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Job:
        """Read the job that a prolog or epilog runs for.

        Raises:
            ValueError: there is no job id in the environment, or it is no number.
        """
        job_id = environ.get(ID_VARIABLE, "")
        if not (job_id.isascii() and job_id.isdigit()):
            raise ValueError(f"{ID_VARIABLE} is {job_id!r}: this runs as Slurm's prolog or epilog")
        gpus = environ.get("SLURM_JOB_GPUS") or environ.get("CUDA_VISIBLE_DEVICES") or ""
        return cls(
            id=job_id,
            uid=_number(environ.get("SLURM_JOB_UID")),
            user=environ.get("SLURM_JOB_USER", ""),
            partition=environ.get("SLURM_JOB_PARTITION", ""),
            node=Node.from_environment(environ),
            node_list=environ.get("SLURM_JOB_NODELIST") or environ.get("SLURM_NODELIST") or "",
            gpus=tuple(gpu for gpu in gpus.split(",") if _is_gpu(gpu)),
            account=environ.get("SLURM_JOB_ACCOUNT", ""),
            name=environ.get("SLURM_JOB_NAME", ""),
            restart_count=max(0, _number(environ.get("SLURM_RESTART_COUNT") or environ.get("SLURM_JOB_RESTART_COUNT"))),
            container=environ.get(_SPANK_OPTION + "pyxis_container_name")
            or environ.get(_SPANK_OPTION + "slurm_fsx_container_name", ""),
            image=environ.get(_SPANK_OPTION + "pyxis_container_image")
            or environ.get(_SPANK_OPTION + "slurm_fsx_container_image", ""),
            nccl=environ.get(_SPANK_OPTION + "slurm_fsx_nccl", ""),
            resolved_image=environ.get("SPANK_SLURM_FSX_CONTAINER_IMAGE", ""),
            nodes=max(1, _number(environ.get("SLURM_JOB_NUM_NODES") or environ.get("SLURM_NUM_NODES"))),
        )


def job_id_of(environ: Mapping[str, str]) -> str:
    """Give the id of the job that a process belongs to, by its environment; empty for none."""
    return environ.get(ID_VARIABLE, "")


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() else -1


def _is_gpu(text: str) -> bool:
    """Whether this names a GPU, as ``0``, ``2.0`` or ``MIG-…``: never a path."""
    return text.isascii() and bool(text) and all(char.isalnum() or char in ".:-" for char in text) and text[0] != "."
