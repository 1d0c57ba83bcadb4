"""Files that matplotlib draws, which is there only where somebody wants pictures."""

from __future__ import annotations

import os
from typing import Any

from .errors import SlurmFsxError

KINDS = (".png", ".svg")


def check_kind(path: str) -> None:
    """Raise SlurmFsxError unless a picture of this name can be drawn: asked before the work, not after it."""
    if not path.endswith(KINDS):
        raise SlurmFsxError(f"{path} is no name of a picture", hint=f"end it with {' or '.join(KINDS)}")
    folder = os.path.dirname(path) or "."
    if not os.access(folder, os.W_OK):
        raise SlurmFsxError(f"{folder} cannot be written to", hint="name another folder")
    _figure_type()


def new_figure(width: float, height: float) -> Any:
    """Give an empty figure, in inches.

    Raises:
        SlurmFsxError: matplotlib is not installed.
    """
    return _figure_type()(figsize=(width, height), layout="constrained")


def _figure_type() -> Any:
    try:
        from matplotlib.figure import Figure  # not pyplot: no window system, no state of its own
    except ImportError as error:
        raise SlurmFsxError(
            "pictures take matplotlib, which is not installed",
            hint="run: pip install 'slurm-fsx-tools[plot]' into this installation",
        ) from error
    return Figure
