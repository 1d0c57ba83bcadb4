"""What goes wrong in the lab itself, told with what the daemons said about it."""

from __future__ import annotations


class LabError(Exception):
    """The cluster did not do what was asked of it."""
