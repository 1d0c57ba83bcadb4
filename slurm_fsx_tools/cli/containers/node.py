"""``slurm-fsx containers cleanup``: what containers left on this node."""

from __future__ import annotations

import os
import sys
import time

import click

from ...config.origin import config_path
from ...config.snapshot import load_snapshot
from ...containers.on_node.local_copies import LocalCopies
from ...containers.on_node.roots import CleanUp
from ...errors import SlurmFsxError


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
def cleanup(dry_run: bool) -> None:
    """Remove what containers left on this node and no job uses.

    These are mounts and processes of jobs that have ended, what containers have written (of a container that is there
    for all jobs, after containers.keep_writes or above containers.writes_limit, oldest first), broken copies of images,
    and what a crash left.
    Safe at any time: a cron job may run it.
    """
    if os.geteuid() != 0:
        raise SlurmFsxError("containers of others can be cleaned up by root only", hint="run it as root, on the node")
    config = load_snapshot(config_path(os.environ)).config
    verb = "would remove" if dry_run else "removing"
    told: list[str] = []

    def report(text: str) -> None:
        told.append(text)
        click.echo(f"{verb} {text}")

    act = CleanUp(config, report, dry_run, time.time())
    act.run()
    copies = LocalCopies.configured(config)
    if copies is not None and not dry_run:
        # Who copies now cleans by itself.
        lock = copies.lock()
        if lock is not None:
            with lock:
                for name in copies.clean():
                    report(f"{name} in {copies.folder}, which is no whole copy")
    for failure in act.failures:
        click.echo(f"slurm-fsx: not removed: {failure}", err=True)
    if not told and not act.failures:
        click.echo("slurm-fsx: nothing to remove", err=True)
    sys.exit(1 if act.failures else 0)
