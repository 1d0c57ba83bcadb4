"""``slurm-fsx setup node``: a compute node, at its boot."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import click

from ...config.origin import DEFAULT_PATH
from ...config.snapshot import load_snapshot
from ...errors import SlurmFsxError
from ...monitoring.cloudwatch.configuration import COMPUTE
from ...provision.compute_node import RECORD, compute_node_steps, wait_until_mounted
from ...provision.installation import Installation
from ...shared_fs import SharedFs
from .cloudwatch import option as cloudwatch_option
from .cloudwatch import set_up_cloudwatch
from .text import carry_out, complain, dry_run_option, finish, force_option, options, runtime_option, slurm_conf_here

if TYPE_CHECKING:
    from ...provision.steps import Record, Step

_AT_ONCE = ("slurm-fsx-nccl.service", "slurm-fsx-register.service")


@click.command()
@options(
    dry_run_option,
    force_option,
    click.option(
        "--wait",
        "wait_s",
        type=click.FloatRange(0, 3600),
        default=60.0,
        show_default=True,
        metavar="SECONDS",
        help="How long to wait for the shared file system.",
    ),
    cloudwatch_option,
    runtime_option,
)
def node(dry_run: bool, force: bool, wait_s: float, wants_cloudwatch: bool, runtime: str) -> None:
    """Set up this compute node; for its boot, and at any time.

    Installs on local disk what jobs and sessions need: the configuration (a copy of FSX/config/config.yaml), enroot's
    mount of the shared NCCL, /etc/profile.d/nccl-shared.sh, timers, and, where they are not shared with other nodes,
    our lines in plugstack.conf, prolog and epilog; then registers the node's exporters with Prometheus.

    The shared file system is waited for; where it stays away, all else is done. Exits with 1 where a step failed.
    """
    installation = Installation.find()
    config = load_snapshot(DEFAULT_PATH).config
    shared_fs = SharedFs(config["fsx.root"], config["fsx.timeout"])
    problem = wait_until_mounted(
        config["fsx.root"],
        shared_fs,
        0.0 if dry_run else wait_s,
        lambda: click.echo(f"waiting for {config['fsx.root']}, {wait_s:g} s at most", err=True),
    )
    conf = slurm_conf_here(copies=True)

    def make_steps(record: Record) -> list[Step]:
        return compute_node_steps(config, installation, conf, shared_fs, record, runtime, problem)

    outcome = carry_out(RECORD, make_steps, dry_run=dry_run, force=force)
    if wants_cloudwatch:
        set_up_cloudwatch(COMPUTE, dry_run=dry_run, force=force)
    if outcome is None:
        return
    load_snapshot(DEFAULT_PATH)
    if problem:
        complain(SlurmFsxError(problem, hint="when it is there: slurm-fsx setup node"))
    else:
        _start_at_once(installation)
    finish(outcome)


def _start_at_once(installation: Installation) -> None:
    """Have the node look at the shared NCCL and register its exporters now; nobody waits for either."""
    if os.path.isdir("/run/systemd/system"):
        command = ["systemctl", "start", "--no-block", *_AT_ONCE]
    else:
        command = [f"{installation.home}/bin/slurm-fsx", "monitoring", "register", "--wait", "0"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        complain(SlurmFsxError(f"exporters are not registered: {error}", hint="run: slurm-fsx monitoring register"))
        return
    if done.returncode:
        said = " ".join(done.stderr.split())
        complain(SlurmFsxError(f"exporters are not registered: {said}", hint="run: slurm-fsx monitoring register"))
