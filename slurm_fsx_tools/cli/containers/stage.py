"""``slurm-fsx containers stage``: copies of images on this node's own disk."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

import click

from ...config.origin import config_path
from ...config.snapshot import load_snapshot
from ...containers.catalogue import Catalogue
from ...containers.on_node.local_copies import LocalCopies
from ...containers.resolution import resolve
from ...containers.store import Store
from ...errors import ConfigError, SlurmFsxError
from ...node.journal import printable

if TYPE_CHECKING:
    from ...config.model import Config
    from ...containers.on_node.local_copies import Copy


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--list", "as_list", is_flag=True, help="List the copies, the least recently used first.")
@click.option("--evict", is_flag=True, help="Remove the copies of these images, or all of them.")
@click.option("--json", "as_json", is_flag=True, help="With --list: print a list of objects.")
def stage(names: tuple[str, ...], as_list: bool, evict: bool, as_json: bool) -> None:
    """Copy images to this node's disk; for root.

    A job that starts on this node brings its image by itself: this is for before the first job. Where there is no
    room, the copies that were not used for longest go. Exits with 1 if an image could not be copied.

    --json prints for each copy: file, size_bytes and used (seconds since 1970).
    """
    config = load_snapshot(config_path(os.environ)).config
    copies = LocalCopies.configured(config)
    if copies is None:
        raise ConfigError("containers.stage is not set", hint="set it to a folder on local disk, e.g. /scratch")
    if as_list:
        _print_list(copies.copies(), as_json)
        return
    if not names and not evict:
        raise click.UsageError("name an image, or give --list or --evict")
    if os.geteuid() != 0:
        raise SlurmFsxError("users believe only copies that root has made", hint="run this as root")
    catalogue = Catalogue(config.below_fsx("containers"))
    lock = copies.lock(timeout_s=None, on_wait=lambda text: click.echo(f"slurm-fsx: waiting: {text}", err=True))
    if lock is None:
        raise SlurmFsxError(f"{copies.folder} is locked by another process", hint="try again later")
    with lock:
        if evict:
            gone = copies.evict([_file(name, catalogue, config) for name in names] if names else None)
            for copy in gone:
                click.echo(f"removed {copy.file}")
            return
        failed = False
        for name in names:
            try:
                click.echo(copies.add(Store(catalogue.folder), _file(name, catalogue, config)))
            except (SlurmFsxError, OSError) as error:
                click.echo(f"slurm-fsx: {printable(f'{name}: {error}')}", err=True)
                failed = True
    if failed:
        raise SystemExit(1)


def _file(name: str, catalogue: Catalogue, config: Config) -> str:
    """Give the file of the image that a name means; only images in the folder itself have copies."""
    folder, file = os.path.split(resolve(name, catalogue, config).path)
    if folder != catalogue.folder:
        raise SlurmFsxError(f"{name} lies in {folder}", hint=f"only images in {catalogue.folder} itself have copies")
    return file


def _print_list(copies: list[Copy], as_json: bool) -> None:
    if as_json:
        objects = [{"file": copy.file, "size_bytes": copy.size_bytes, "used": copy.used_s} for copy in copies]
        click.echo(json.dumps(objects, indent=2))
        return
    for copy in copies:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(copy.used_s))
        click.echo(f"{copy.size_bytes / (1 << 30):8.2f} GiB  {used}  {printable(copy.file)}")
