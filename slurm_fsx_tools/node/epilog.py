"""Epilog: after a job has ended on a node, as root; it may run twice, and without a prolog before it."""

from __future__ import annotations

import os

from ..files import remove
from .run import EXIT_OK, Context, exit_with, run


def main() -> None:
    """Run as Slurm's epilog, and end the process."""
    exit_with(run("epilog", clean_up, os.environ))


def clean_up(context: Context) -> int:
    """Remove what the prolog wrote, but for the log, and let the plugins clean up; give the exit code."""
    job, config = context.job, context.config
    # First: where this run is cut short, what it leaves is that of a job that is gone, and later ones take it away.
    try:
        remove(context.env_path)
    except OSError as error:
        context.journal.failure("removing the job's environment", error)
    context.plugins.call_each("slurm_fsx_epilog", job=job, config=config, shared_fs=context.shared_fs)
    return EXIT_OK
