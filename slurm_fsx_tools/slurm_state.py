"""Nodes and jobs as Slurm tells of them, and what can be asked: values for every part, which asks nobody itself."""

from __future__ import annotations

from typing import NamedTuple, Protocol

_AWAY = ("~", "#", "!", "%")
"""Powered off, being powered up, about to be powered down, being powered down."""

_GONE = (
    "down",
    "future",
    "unknown",
    "error",
    "power_down",
    "powered_down",
    "powering_down",
    "powering_up",
    "no_respond",
)
_TAKES_JOBS = ("idle", "mixed", "allocated", "completing", "planned", "blocked")


class SlurmNode(NamedTuple):
    """A node as Slurm knows it."""

    name: str
    state: str
    """In sinfo's words, without the marks behind it: ``idle``, ``mixed``, ``drained``, ``down``, ..."""

    marks: str = ""
    """One character each, e.g. ``*`` for no answer, ``~`` for powered off. Source: sinfo(1), NODE STATE CODES."""

    partition: str = ""
    """One that takes jobs for it, the default one if that is possible; empty where none does."""

    gpus: int = 0
    partitions: tuple[str, ...] = ()
    """All it is in, sorted."""

    features: tuple[str, ...] = ()
    """Active features, e.g. ``static``, ``p5.48xlarge`` on ParallelCluster."""

    address: str = ""
    """``NodeAddr``; empty where it was not told."""

    @property
    def is_powered_off(self) -> bool:
        """Whether it is off, or on its way there or back: it runs its set-up when it boots."""
        return any(mark in self.marks for mark in _AWAY) or self.state.startswith("power")

    @property
    def is_down(self) -> bool:
        """Whether Slurm has given it up, or hears nothing of it."""
        return self.state in _GONE or "*" in self.marks

    @property
    def takes_jobs(self) -> bool:
        """Whether a new job could start on it, now or when others have ended."""
        return bool(self.partition) and self.state in _TAKES_JOBS and not self.is_down and not self.is_powered_off


class SlurmJob(NamedTuple):
    """A job as Slurm knows it: an element of an array, and a part of a heterogeneous job, is one of its own."""

    id: int
    user: str
    """Empty where the id has no name."""

    uid: int
    account: str = ""
    partition: str = ""
    name: str = ""
    """The user's own words: never trusted."""

    state: str = ""
    """In squeue's words, e.g. ``RUNNING``, ``PENDING``, ``COMPLETING``."""

    nodes: str = ""
    """The nodes in Slurm's range syntax, e.g. ``gpu-[1-4]``; empty while it waits."""

    node_count: int = 0
    gpus: int = 0
    start_time_s: float = 0.0
    """Seconds since 1970; 0 while it waits."""

    container: str = ""
    """What Slurm's own ``--container`` was given; Pyxis's names are not told by Slurm."""

    end_time_s: float = 0.0
    """When it ended, or will have to; 0 where nobody knows."""


class SlurmClient(Protocol):
    """What the commands ask of Slurm."""

    def nodes(self) -> list[SlurmNode]:
        """Give all nodes of the cluster, in Slurm's order.

        Raises:
            SlurmUnavailable: there is no answer, or none that can be read.
        """

    def jobs(self) -> list[SlurmJob]:
        """Give all jobs that have not ended, in Slurm's order.

        Raises:
            SlurmUnavailable: there is no answer, or none that can be read.
        """

    def job(self, job_id: int) -> SlurmJob | None:
        """Give one job, also one that ended some minutes ago; None where Slurm does not remember it.

        Raises:
            SlurmUnavailable: there is no answer, or none that can be read.
        """

    def active_jobs(self) -> dict[int, int]:
        """Give the jobs that have nodes, running, suspended, or not yet cleaned up after: the user's id by the job's.

        Each element of an array, and each part of a heterogeneous job, has an id of its own: the one that prologs,
        steps and SPANK plugins (S_JOB_ID) know it by.

        Raises:
            SlurmUnavailable: there is no answer, or none that can be read.
        """

    def cluster_name(self) -> str:
        """Give Slurm's ``ClusterName``, as steps have it in ``SLURM_CLUSTER_NAME``; empty where there is no answer."""
