"""CloudWatch as a part of set-up: only where its agent is, since elsewhere nobody expects it."""

from __future__ import annotations

import click

from ...errors import SlurmFsxError
from ...monitoring.cloudwatch.agent import CONTROL, CloudWatchAgent
from ..monitoring.cloudwatch import cloudwatch
from .text import complain

option = click.option(
    "--cloudwatch/--no-cloudwatch",
    "wants_cloudwatch",
    default=True,
    help="Whether CloudWatch's agent, where it is installed, sends logs and metrics.",
)


def set_up_cloudwatch(node_type: str, *, dry_run: bool, force: bool) -> None:
    """Do what ``slurm-fsx monitoring cloudwatch`` does; what is wrong with that keeps nothing else back."""
    if not CloudWatchAgent(CONTROL).is_installed():
        return
    context = click.get_current_context()
    try:
        context.invoke(cloudwatch, node_type=node_type, print_only=False, dry_run=dry_run, force=force, control=CONTROL)
    except SlurmFsxError as error:
        complain(error)
