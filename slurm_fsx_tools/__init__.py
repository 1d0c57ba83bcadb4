"""Container names, NCCL environment and metrics for Slurm jobs on FSx for Lustre."""

from __future__ import annotations

__all__ = ["__version__", "hookimpl"]


def __getattr__(name: str) -> object:
    # pluggy costs twice a bare interpreter to import: only who asks pays.
    if name == "hookimpl":
        from .hookspecs import hookimpl

        return hookimpl
    if name == "__version__":
        from .version import VERSION

        return VERSION
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
