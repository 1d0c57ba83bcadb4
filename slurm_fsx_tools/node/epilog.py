"""Epilog: after a job has ended on a node, as root; it may run twice, and without a prolog before it."""

from __future__ import annotations

import os

from ..files import remove
from .run import EXIT_OK, Context, exit_with, job_file, run


def main() -> None:
    """Run as Slurm's epilog, and end the process."""
    exit_with(run("epilog", clean_up, os.environ))


def clean_up(context: Context) -> int:
    """Remove what the prolog wrote, and let the plugins clean up; give the exit code."""
    job, config = context.job, context.config
    # First: where this run is cut short, what it leaves is that of a job that is gone, and later ones take it away.
    _remove(context, ".env")
    context.plugins.call_each("slurm_fsx_epilog", job=job, config=config, shared_fs=context.shared_fs)
    _remove(context, ".log")
    return EXIT_OK


def _remove(context: Context, suffix: str) -> None:
    try:
        remove(job_file(context.config, context.job.id, suffix))
    except OSError as error:
        context.journal.failure(f"removing the job's {suffix[1:]}", error)
