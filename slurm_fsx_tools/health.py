"""What a node's health check says."""

from __future__ import annotations

from .values import NamedTuple

OK, WARN, DRAIN = "ok", "warn", "drain"
VERDICTS = (OK, WARN, DRAIN)
"""From the lightest to the gravest."""


class Health(NamedTuple):
    """A verdict on a node, with the reason for anything but ``ok``."""

    verdict: str
    reason: str = ""

    @classmethod
    def ok(cls) -> Health:
        """The node is fit."""
        return cls(OK)

    @classmethod
    def warn(cls, reason: str) -> Health:
        """The job may start; the reason goes to the log."""
        return cls(WARN, reason)

    @classmethod
    def drain(cls, reason: str) -> Health:
        """The node must not run this job: Slurm drains it and requeues the job."""
        return cls(DRAIN, reason)
