"""``make bench``: measure every figure, print the table, and write ``build/bench.json``."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from lab.cluster import CHECKOUT

from . import artefact, catalogue, containers, crowd, doctor, importer, monitoring, node, plugin, setup, steps
from .figures import show, write

RESULT = CHECKOUT / "build/bench.json"


def main() -> None:
    """Measure, print and write; a figure over its limit is no error, only printed."""
    if os.geteuid() != 0:
        sys.exit("make bench: a private cluster takes namespaces and mounts: run as root")
    with tempfile.TemporaryDirectory(prefix="slurm-fsx-bench-") as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)
        figures = [
            *node.measure(folder / "node"),
            *crowd.measure(folder / "crowd"),
            *catalogue.measure(folder / "catalogue"),
            *importer.measure(folder / "importer"),
            *plugin.measure(folder / "plugin"),
            *steps.measure(folder / "steps"),
            *setup.measure(folder / "setup"),
            *containers.measure(folder / "containers"),
            *doctor.measure(folder / "doctor"),
            *monitoring.measure(folder / "monitoring"),
            *artefact.measure(folder / "artefact"),
        ]
    show(figures)
    write(figures, RESULT)


if __name__ == "__main__":
    main()
