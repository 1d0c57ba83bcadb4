"""Declarative steps of a machine's set-up: look, plan, apply, undo; idempotent, and gone on with after a kill.

with Record.open("head") as record:
    steps = [Folder("/etc/prometheus"), File("/etc/prometheus/prometheus.yml", text), Service("prometheus.service")]
    for change in plan(steps, record):
        print(change.summary, change.diff)
    outcome = apply(steps, record)
"""

from __future__ import annotations

from .engine import apply, plan, undo
from .file import File, Line
from .folder import Folder, Link
from .program import Command, Packages, Service
from .record import Record
from .step import Change, Event, Outcome, Step, Withheld

__all__ = (
    "Change",
    "Command",
    "Event",
    "File",
    "Folder",
    "Line",
    "Link",
    "Outcome",
    "Packages",
    "Record",
    "Service",
    "Step",
    "Withheld",
    "apply",
    "plan",
    "undo",
)
