"""``slurm-fsx tidy``: what is left on the shared file system of jobs that have ended, once for the cluster."""

from __future__ import annotations

import os

import click

from ..errors import SlurmFsxError
from ..nccl.versions import clear_removed
from .activity import forget_ended_jobs, image_marks, version_marks
from .containers.text import load_config, open_store


@click.command()
def tidy() -> None:
    """Remove what jobs that have ended left on the shared file system.

    Each job leaves an empty file that says which image it uses, and one for its version of NCCL, so that neither is
    removed while it runs. Slurm says who still does; where it does not answer, everything stays. What removals of NCCL
    versions that were killed have left goes, too.

    For the head node, where slurm-fsx-tidy.timer runs it once a day; safe at any time. What a node has on its own disk
    is for `containers cleanup`, images that are not needed any more are for `containers prune`.
    """
    if os.geteuid() != 0:
        raise SlurmFsxError("the marks of jobs are root's", hint="run it as root, on the head node")
    config = load_config().config
    store = open_store(config)
    root = config.below_fsx("nccl")
    count = forget_ended_jobs(config, "images and versions of NCCL", image_marks(store), version_marks(root))
    clear_removed(root)
    click.echo(f"slurm-fsx: {count} mark{'' if count == 1 else 's'} of jobs that have ended removed", err=True)
