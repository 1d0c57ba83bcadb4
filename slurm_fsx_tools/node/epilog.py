"""Epilog: after a job has ended on a node, as root; it may run twice, and without a prolog before it."""

from __future__ import annotations

import os

from ..files import remove
from .run import EXIT_OK, Context, exit_with, job_file, run


def main() -> None:
    """Run as Slurm's epilog, and end the process."""
    exit_with(run("epilog", clean_up, os.environ))


def clean_up(context: Context) -> int:
    """Let the plugins clean up, then remove what the prolog wrote; give the exit code."""
    job, config = context.job, context.config
    context.plugins.call_each("slurm_fsx_epilog", job=job, config=config, shared_fs=context.shared_fs)
    for suffix in (".env", ".log"):
        try:
            remove(job_file(config, job.id, suffix))
        except OSError as error:
            context.journal.failure(f"removing the job's {suffix[1:]}", error)
    return EXIT_OK
