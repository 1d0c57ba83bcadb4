"""``slurm-fsx nccl list|use|remove``: the versions that are there, and which one jobs get."""

from __future__ import annotations

import json
import time

import click

from ...errors import SlurmFsxError
from ...nccl import versions
from ...nccl.installs.installing import discard_unfinished, unfinished
from ...nccl.manifest import USES
from ...node.journal import printable
from ...uses import UNUSED, Activity, forget_ended, read_uses
from ..activity import ask_slurm, version_marks
from .text import check_may_change, date, folders, load_config, print_table, publish_files, sweep_marks

_prefix = click.option("--prefix", metavar="FOLDER", help="Where the nccl folder is; fsx.root of the configuration.")


@click.command("list")
@_prefix
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects.")
def list_versions(prefix: str | None, as_json: bool) -> None:
    """List the versions that are there, the newest first, and which one jobs get.

    --json prints for each version: id, current, problem (empty if none is seen), jobs that have got it and may still
    run, and manifest (null if it has none); for an unfinished build: id, and unfinished.
    """
    root, _ = folders(load_config(), prefix)
    found = versions.list_versions(root)
    begun = unfinished(root)
    if as_json:
        rows = [
            {
                "id": version.id,
                "current": version.is_current,
                "problem": version.problem,
                "jobs": version.jobs,
                "manifest": version.manifest._asdict() if version.manifest else None,
            }
            for version in found
        ]
        click.echo(json.dumps([*rows, *({"id": each, "unfinished": True} for each in begun)], indent=2))
        return
    table = []
    for version in found:
        manifest = version.manifest
        details = ("-", "-", "-", "-")
        if manifest is not None:
            gpus = " ".join(manifest.architectures) or "as in the wheel"
            details = (manifest.nccl, manifest.ofi or "-", gpus, date(manifest.installed_s))
        mark = "*" if version.is_current else ""
        state = printable(version.problem) or (f"{len(version.jobs)} jobs" if version.jobs else "")
        table.append((mark, version.id, *details, state))
    table += [("", version_id, "-", "-", "-", "-", "unfinished: the same install goes on") for version_id in begun]
    if table:
        print_table(("", "id", "nccl", "plugin", "gpus", "installed", "note"), table)
    if not found:
        click.echo(f"slurm-fsx: no version of ours is in {root}: slurm-fsx nccl install", err=True)


@click.command()
@click.argument("version_id", metavar="ID")
@_prefix
@click.option("--force", is_flag=True, help="Also one that is broken.")
def use(version_id: str, prefix: str | None, force: bool) -> None:
    """Switch to another version, at once: jobs that start from now on get it, and those that run keep theirs.

    A version that lacks a file, or whose library cannot be loaded here or says that it is another one, is refused.
    """
    config = load_config()
    root, _ = folders(config, prefix)
    check_may_change(root)
    before = versions.current_id(root)
    try:
        manifest = versions.check_usable(root, version_id)
    except SlurmFsxError as error:
        if not force:
            raise
        click.echo(f"slurm-fsx: {printable(error.message)}; used all the same", err=True)
        manifest = None
    versions.activate(root, version_id)
    if manifest is None:
        try:
            manifest = versions.read_manifest(root, version_id)
        except (SlurmFsxError, OSError) as error:
            click.echo(f"slurm-fsx: the files in {root} stay as they are: {printable(str(error))}", err=True)
    if manifest is not None:
        publish_files(root, manifest, config)
    click.echo(f"{version_id} is current" + (f"; before: {before}" if before not in ("", version_id) else ""), err=True)
    sweep_marks(root, config)


@click.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@_prefix
@click.option("--force", is_flag=True, help="Also what a job uses, and without asking Slurm; never the current one.")
def remove(ids: tuple[str, ...], prefix: str | None, force: bool) -> None:
    """Remove versions, or what an install has left unfinished.

    Never the current one. One that a running job has got stays, and so do all if Slurm cannot be asked who runs.

    Exits with 1 if one stays.
    """
    config = load_config()
    root, _ = folders(config, prefix)
    check_may_change(root)
    failed = 0
    # Read before Slurm is asked: a job that starts in between has a marker that nobody takes for an old one.
    uses = read_uses(f"{root}/{USES}", time.time())
    activity = Activity(()) if force else ask_slurm(config, "versions", "or remove them with --force")[0]
    if not force and activity.jobs and not any(activity.running(each) for each in uses.values()):
        raise SlurmFsxError(
            f"jobs run, and none of them has left a mark of its version in {root}/{USES}",
            hint="see in a node's log whether it may write there; --force when no job uses what is to go",
        )
    for version_id in dict.fromkeys(ids):
        try:
            if not discard_unfinished(root, version_id):
                use = uses.get(version_id, UNUSED)
                ended = use.jobs.difference(activity.running(use))
                versions.remove_version(root, version_id, None if force else ended)
            click.echo(f"removed {version_id}", err=True)
        except (SlurmFsxError, OSError) as error:
            failed += 1
            click.echo(f"slurm-fsx: {printable(version_id)} stays: {printable(str(error))}", err=True)
    if not force:
        others = {each: use for each, use in uses.items() if each not in ids}
        forget_ended(f"{root}/{USES}", others, activity, version_marks(root).exists)
    raise SystemExit(1 if failed else 0)
