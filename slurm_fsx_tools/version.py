"""Which version of this software runs: the release, and the build, by which nodes can be compared."""

from __future__ import annotations

import os

VERSION = "0.1.0"
"""The release; setup.cfg reads it here."""

BUILD_FILE = "build-id"


def build() -> str:
    """Name the build: the same on all nodes that have the same files, and empty where nothing was installed."""
    try:
        with open(os.path.join(os.path.dirname(__file__), BUILD_FILE)) as file:
            return file.read(64).strip()
    except OSError:
        return ""


def described() -> str:
    """Give release and build as ``slurm-fsx --version`` prints them, e.g. ``0.1.0 (build 3f9a2b7c1d2e)``."""
    built = build()
    return f"{VERSION} (build {built})" if built else VERSION
