"""``slurm-fsx nccl lint|variables``: what in an environment does harm, and all that is known of each variable."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import click

from ...config.origin import config_path
from ...config.snapshot import load_snapshot
from ...errors import SlurmFsxError
from ...nccl.environment import facts_of
from ...nccl.installation import current_installation
from ...nccl.lint import lint_all, read_file, read_image, read_job
from ...nccl.page import format_page
from ...node.journal import printable
from ...shared_fs import SharedFs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ...config.model import Config, Snapshot
    from ...nccl.conditions import Facts
    from ...nccl.lint import Finding


@click.command()
@click.option("--job", "job_id", metavar="ID", help="Look at a job that runs on this node.")
@click.option("--image", metavar="NAME", help="Look at what an image gives to its containers.")
@click.option("--file", "path", type=click.Path(), help="Look at a file, as env prints it or a script exports it.")
@click.option("--json", "as_json", is_flag=True, help="Print an object.")
def lint(job_id: str | None, image: str | None, path: str | None, as_json: bool) -> None:
    """Name each variable that does harm to NCCL, with the reason and its source; of this very environment unless told.

    What is harmful depends on the versions that are installed and on the instance type: what is not known counts as the
    newest. Exits with 1 if anything is harmful.

    --json prints an object: facts; findings, each with name, value, is_harmful, why, source and where.
    """
    if sum(option is not None for option in (job_id, image, path)) > 1:
        raise click.UsageError("give one of --job, --image and --file")
    snapshot = load_snapshot(config_path(os.environ))
    config = snapshot.config
    facts = _facts(config)
    findings = lint_all(_read(job_id, image, path, snapshot), facts)
    if as_json:
        document = {"facts": facts._asdict(), "findings": [finding._asdict() for finding in findings]}
        click.echo(json.dumps(document, indent=2))
    else:
        _print(findings)
    if any(finding.is_harmful for finding in findings):
        raise SystemExit(1)


@click.command()
def variables() -> None:
    """Print all that is known of each variable, as a page of Markdown."""
    click.echo(format_page(), nl=False)


def _facts(config: Config) -> Facts:
    try:
        shared_fs = SharedFs(config["fsx.root"], config["fsx.timeout"])
        return facts_of(current_installation(config, shared_fs), config)
    except (OSError, SlurmFsxError) as error:
        click.echo(f"slurm-fsx: the installed versions are not known: {printable(str(error))}", err=True)
        return facts_of(None, config)


def _read(
    job_id: str | None, image: str | None, path: str | None, snapshot: Snapshot
) -> Sequence[tuple[str, Mapping[str, str]]]:
    if job_id is not None:
        if not (job_id.isascii() and job_id.isdigit()):
            raise click.UsageError(f"{job_id!r} is no job's id")
        return read_job(f"{snapshot.config['runtime_dir']}/jobs/{job_id}.env", job_id)
    if image is not None:
        import shutil

        from ..containers.show import image_path

        found = image if image.startswith("/") else image_path(image, snapshot)
        return [(found, read_image(found, shutil.which("unsquashfs") or "unsquashfs"))]
    if path is not None:
        return [(path, read_file(path))]
    return [("this environment", dict(os.environ))]


def _print(findings: Sequence[Finding]) -> None:
    for finding in findings:
        kind = "harmful" if finding.is_harmful else "of no use"
        click.echo(f"{kind}: {finding.name}={printable(finding.value)} in {printable(finding.where)}")
        click.echo(f"  {finding.why}")
        click.echo(f"  {finding.source}")
    if not any(finding.is_harmful for finding in findings):
        click.echo("slurm-fsx: nothing harmful", err=True)
