"""``slurm-fsx setup place|upgrade|rollback|versions``: which version of this software runs on this machine."""

from __future__ import annotations

import json
import os
import shlex

import click

from ...errors import SlurmFsxError
from ...provision import versions
from ...provision.installation import HOME

_prefix = click.option(
    "--prefix",
    default=HOME,
    show_default=True,
    metavar="PATH",
    help="Where this software is: a link to the version that runs.",
)
_plugin = click.option("--without-plugin", is_flag=True, help="Go on where no SPANK plugin fits this Slurm.")


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, resolve_path=True))
@_prefix
@click.option("--python", metavar="PATH", help="The Python that runs it; install.sh starts this command by it.")
@_plugin
def place(folder: str, prefix: str, python: str | None, without_plugin: bool) -> None:
    """Put the unpacked archive FOLDER on this machine, and let it be the version that runs."""
    _check_may_change(prefix)
    os.umask(0o022)
    done = versions.place(folder, prefix, not without_plugin)
    if done.note:
        click.echo(f"slurm-fsx: {done.note}", err=True)
    _tell(done, prefix)
    if not done.before:
        command = f"{prefix}/bin/slurm-fsx setup"
        click.echo(f"next: {command} head, then {command} hooks; or on a compute node: {command} node", err=True)


@click.command()
@click.argument("archive", type=click.Path(exists=True, dir_okay=False, resolve_path=True))
@_prefix
@click.option("--sha256", default="", metavar="HEX", help="ARCHIVE's SHA-256; that in ARCHIVE.sha256 unless given.")
@_plugin
def upgrade(archive: str, prefix: str, sha256: str, without_plugin: bool) -> None:
    """Put ARCHIVE, which `make dist` made, on this machine, and let it be the version that runs.

    Jobs may start meanwhile: each gets the old version or the new one. Exits with the installer's code.
    """
    _check_may_change(prefix)
    os.umask(0o022)
    raise SystemExit(versions.upgrade(archive, prefix, sha256, ["--without-plugin"] if without_plugin else []))


@click.command()
@_prefix
@click.option("--to", "version_id", default="", metavar="ID", help="Go to this version; setup versions lists them.")
def rollback(prefix: str, version_id: str) -> None:
    """Go back to the version that ran before, at once; run again, to the newer one."""
    _check_may_change(prefix)
    _tell(versions.roll_back(prefix, version_id), prefix)


@click.command("versions")
@_prefix
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects: id, is_current, is_previous.")
def list_versions(prefix: str, as_json: bool) -> None:
    """List the versions on this machine, the newest first; `*` marks the one that runs, `-` the one before."""
    found = versions.list_versions(prefix) if os.path.isdir(versions.versions_folder(prefix)) else []
    if as_json:
        click.echo(json.dumps([version._asdict() for version in found], indent=2))
        return
    if not found:
        folder = versions.versions_folder(prefix)
        click.echo(f"slurm-fsx: no version is in {folder}: an archive's install.sh puts the first there", err=True)
    for version in found:
        click.echo(f"{'*' if version.is_current else '-' if version.is_previous else ' '} {version.id}")


def _tell(done: versions.Switch, prefix: str) -> None:
    before = f"; before: {done.before}" if done.before not in ("", done.id) else ""
    click.echo(f"{prefix} is {done.id}{before}", err=True)


def _check_may_change(prefix: str) -> None:
    if not os.path.isabs(prefix) or os.path.normpath(prefix) != prefix or prefix.count("/") < 2:
        raise SlurmFsxError(f"{prefix!r} is no absolute path below a folder", hint=f"write --prefix={HOME}")
    folder = os.path.dirname(prefix)
    if not os.path.isdir(folder):
        raise SlurmFsxError(f"there is no folder {folder}", hint=f"make it: mkdir -p {shlex.quote(folder)}")
    if not os.access(folder, os.W_OK):
        raise SlurmFsxError(f"{folder} cannot be written to", hint="run it as root")
