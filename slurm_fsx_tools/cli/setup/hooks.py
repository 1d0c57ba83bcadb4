"""``slurm-fsx setup hooks``: our prolog and epilog, where this cluster keeps its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from ...errors import SlurmFsxError
from ...provision.hooks import RECORD, hook_steps, warnings
from ...provision.installation import Installation
from ...provision.slurm_conf import find_slurm_conf, read_slurm_conf
from .text import ROOT, carry_out, complain, dry_run_option, finish, force_option, options

if TYPE_CHECKING:
    from ...provision.steps import Record, Step


@click.command()
@options(
    dry_run_option,
    force_option,
    click.option("--edit-slurm-conf", is_flag=True, help="Write what slurm.conf lacks; a backup is kept beside it."),
)
def hooks(dry_run: bool, force: bool, edit_slurm_conf: bool) -> None:
    """Have Slurm run our prolog and epilog.

    They go into the folders that slurm.conf names by pattern (ParallelCluster's scripts/prolog.d and epilog.d, say).
    Where it names none, the lines that it lacks are printed; with --edit-slurm-conf they are written, after Slurm's own
    reader has found no fault with them. TaskProlog is never set. Run `scontrol reconfigure` afterwards.
    """
    installation = Installation.find()
    conf = read_slurm_conf(find_slurm_conf(ROOT, os.environ))
    for warning in warnings(conf):
        complain(SlurmFsxError(warning))

    def make_steps(record: Record) -> list[Step]:
        return hook_steps(conf, installation.share, edit=edit_slurm_conf, before=list(record.entries.values()))

    outcome = carry_out(RECORD, make_steps, dry_run=dry_run, force=force)
    if outcome is None:
        return
    if any(event.step.startswith("line ") for event in outcome.of("changed")):
        click.echo("slurm.conf has changed: do this on machines with a copy of their own, then: scontrol reconfigure")
    finish(outcome)
