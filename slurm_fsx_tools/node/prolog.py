"""Prolog: before a job starts on a node, as root."""

from __future__ import annotations

import os

from ..files import remove, write_atomically
from ..health import DRAIN, OK, VERDICTS, Health
from ..jobenv import JobEnv, format_operations
from .run import EXIT_DRAIN, EXIT_OK, Context, exit_with, run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


def main() -> None:
    """Run as Slurm's prolog, and end the process."""
    exit_with(run("prolog", prepare, os.environ))


def prepare(context: Context) -> int:
    """Judge the node, write the job's environment, and let the plugins act; give the exit code."""
    plugins, journal = context.plugins, context.journal
    common = {"job": context.job, "config": context.config, "shared_fs": context.shared_fs}

    health = gravest(plugins.call_each("slurm_fsx_node_health", **common))
    if health.verdict != OK:
        journal.warning(f"node health is {health.verdict}: {health.reason}")
    if health.verdict == DRAIN:
        return EXIT_DRAIN

    env = JobEnv()
    plugins.call_each("slurm_fsx_job_env", env=env, **common)
    for note in env.notes:
        journal.warning(note)
    write_environment(context, env)

    offers = plugins.call_each("slurm_fsx_exporters", node=context.job.node, config=context.config)
    plugins.call_each("slurm_fsx_prolog", env=env, exporters=merge(offers), **common)
    return EXIT_OK


def gravest(verdicts: Iterable[Health]) -> Health:
    """Give the gravest verdict, the first of equals; a word that is no verdict counts as a warning."""
    worst = Health.ok()
    for verdict in verdicts:
        known = verdict if verdict.verdict in VERDICTS else Health.warn(f"{verdict.verdict!r} is no verdict")
        if VERDICTS.index(known.verdict) > VERDICTS.index(worst.verdict):
            worst = known
    return worst


def merge(offers: Iterable[list[Any]]) -> list[Any]:
    """Give one exporter for each name: the last one offered, since sites have their say after the built-ins."""
    return list({exporter.name: exporter for offer in offers for exporter in offer}.values())


def write_environment(context: Context, env: JobEnv) -> None:
    """Write the job's environment file; a job that was requeued never keeps the old one."""
    try:
        write_atomically(context.env_path, format_operations(env))
    except OSError as error:
        context.journal.failure("writing the job's environment", error)
        try:
            remove(context.env_path)
        except OSError as second:
            context.journal.failure("removing the old environment", second)
