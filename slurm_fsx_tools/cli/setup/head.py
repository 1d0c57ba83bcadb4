"""``slurm-fsx setup head``: the head node, and what all nodes share."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import click

from ...config.origin import DEFAULT_PATH
from ...config.snapshot import load_snapshot
from ...errors import SlurmFsxError
from ...files import read_trusted
from ...monitoring.cloudwatch.configuration import HEAD
from ...provision.head_node import CLUSTER_CONFIG, RECORD, check_mounted, head_node_steps
from ...provision.hooks import RECORD as HOOKS
from ...provision.installation import Installation
from ...provision.prometheus import RECORD as PROMETHEUS
from ...provision.prometheus import SomebodyElses, plan_prometheus, set_up_prometheus
from ...provision.steps import Record
from ...shared_fs import SharedFs
from ..monitoring.install import make_setup
from .cloudwatch import option as cloudwatch_option
from .cloudwatch import set_up_cloudwatch
from .text import (
    ROOT,
    carry_out,
    complain,
    dry_run_option,
    finish,
    force_option,
    options,
    print_plan,
    report,
    runtime_option,
    slurm_conf_here,
)

if TYPE_CHECKING:
    from ...config.model import Config
    from ...provision.steps import Outcome, Step

_IMPORT_TIMEOUT_S = 60.0
_PROMETHEUS_HINT = (
    "slurm-fsx monitoring install --print says what to add there, and with --force replaces it after a backup"
)


@click.command()
@options(
    dry_run_option,
    force_option,
    click.option("--allow-unmounted", is_flag=True, help="Make the tree even where no file system is mounted."),
    click.option("--images/--no-images", default=True, help="Whether images are downloaded, in the background."),
    click.option("--prometheus/--no-prometheus", default=True, help="Whether Prometheus is set up here."),
    cloudwatch_option,
    runtime_option,
)
def head(
    dry_run: bool,
    force: bool,
    allow_unmounted: bool,
    images: bool,
    prometheus: bool,
    wants_cloudwatch: bool,
    runtime: str,
) -> None:
    """Set up the head node.

    Makes the tree on the shared file system (containers, scripts, config, logs, nccl, datasets, checkpoints, results,
    monitoring), where users write to datasets, checkpoints, results and logs/training alone; installs scripts, the list
    of images and the configuration in there, our lines around Pyxis's in plugstack.conf, the timer that keeps
    Prometheus' targets as Slurm's nodes are, Prometheus, and what CloudWatch's agent sends; then starts the download of
    images in the background.

    Exits with 1 where a step failed; the others are done all the same.
    """
    config = load_snapshot(DEFAULT_PATH).config
    installation = Installation.find()
    shared_fs = SharedFs(config["fsx.root"], config["fsx.timeout"])
    check_mounted(config["fsx.root"], shared_fs, allow_unmounted=allow_unmounted)
    conf = slurm_conf_here()

    def make_steps(record: Record) -> list[Step]:
        cluster_config = _read(config.below_fsx(CLUSTER_CONFIG))
        return head_node_steps(config, installation, conf, cluster_config, _read(DEFAULT_PATH), runtime)

    outcome = carry_out(RECORD, make_steps, dry_run=dry_run, force=force)
    if outcome is not None:
        load_snapshot(DEFAULT_PATH)
    if prometheus:
        try:
            _set_up_prometheus(config, outcome, force=force)
        except SomebodyElses as error:
            complain(SlurmFsxError(f"Prometheus is left as it is: {error.message}", hint=_PROMETHEUS_HINT))
        except SlurmFsxError as error:
            complain(error)
    if wants_cloudwatch:
        set_up_cloudwatch(HEAD, dry_run=dry_run, force=force)
    if outcome is None:
        if images:
            click.echo("then: slurm-fsx containers sync --background")
        return
    if images:
        _start_download(installation)
    finish(outcome)
    if HOOKS not in Record.known(ROOT):
        click.echo("next: slurm-fsx setup hooks")


def _set_up_prometheus(config: Config, outcome: Outcome | None, *, force: bool) -> None:
    setup = make_setup(config)
    if outcome is None:
        print_plan(PROMETHEUS, plan_prometheus(setup, Record.read(PROMETHEUS, ROOT)))
        return
    with Record.open(PROMETHEUS, ROOT) as record:
        outcome.events += set_up_prometheus(setup, record, force=force, report=report).events


def _start_download(installation: Installation) -> None:
    """Start bringing the listed images; whatever is wrong with that, the head node is set up."""
    command = [f"{installation.home}/bin/slurm-fsx", "containers", "sync", "--background"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=_IMPORT_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        complain(SlurmFsxError(f"the download of images did not start: {error}", hint=f"run: {' '.join(command)}"))
        return
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"it ended with {done.returncode}"
        complain(SlurmFsxError(f"the download of images did not start: {said}", hint=f"run: {' '.join(command)}"))
    else:
        click.echo("images are downloaded in the background; see: slurm-fsx containers status --watch")


def _read(path: str) -> str | None:
    try:
        return read_trusted(path).decode()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise SlurmFsxError(f"{os.path.basename(path)} is no text: {path}", hint="see slurm-fsx config check") from None
