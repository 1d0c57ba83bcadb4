"""``slurm-fsx containers list|resolve|index``: images in the catalogue, and what a container's name means."""

from __future__ import annotations

import json
import os
import syslog
import time
from typing import TYPE_CHECKING, Any

import click

from ...containers.catalogue import Catalogue
from ...containers.index import index_path
from ...containers.listing import list_images as list_catalogue
from ...containers.names import SUFFIX, ContainerName
from ...containers.records import read_records
from ...containers.refresh import RESOLVE_HOOK, refresh_index, site_resolvers
from ...containers.resolution import nearest_names
from ...errors import ImageNotFound, SlurmFsxError
from ...node.journal import printable
from ...plugins import load_plugins
from ...uses import read_uses
from .text import complain, date, load_config, open_store, print_table, say_empty, size, utc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...config.model import Config, Snapshot
    from ...containers.catalogue import Image
    from ...containers.listing import Listing
    from ...containers.records import Record
    from ...plugins import Failure
    from ...uses import Use


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print an object.")
def list_images(as_json: bool) -> None:
    """List the images, and what each short name means now.

    Files that are no images are named on stderr, with the reason.

    --json prints an object: folder; images, each with names (the shortest first), registry, repository, tag, digest
    (null where the name has none), size_bytes, modified, path, record (what an imported one was made from; else null)
    and jobs (that have started from it and may still run); short_names, each with its path, or null and the error;
    rejects, each with file and reason.
    """
    snapshot = load_config()
    store = open_store(snapshot.config)
    listing = list_catalogue(store, snapshot.config, time.time())
    try:
        uses = read_uses(store.uses)
    except (SlurmFsxError, OSError) as error:
        complain("who uses the images", error)
        uses = {}
    if as_json:
        click.echo(json.dumps(_describe_listing(listing, read_records(store), uses), indent=2))
        return
    if listing.images:
        _print_images(listing, uses)
    else:
        say_empty(listing.folder)
    if listing.short_names:
        click.echo()
        rows = [(name, _meaning(answer)) for name, answer in listing.short_names.items()]
        print_table(("short name", "means now"), rows)
    for reject in listing.rejects:
        click.echo(f"slurm-fsx: {printable(reject.file)} is not used: {reject.reason}", err=True)
    sites = site_resolvers(load_plugins(snapshot, complain))
    if sites:
        click.echo(f"slurm-fsx: site plugins are asked first, and may choose otherwise: {', '.join(sites)}", err=True)


@click.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print an object.")
@click.option("--submit", is_flag=True, help="Say in one line why there is no image, as srun and sbatch need it.")
@click.option("--partition", default="", metavar="P", help="The job's partition, for site plugins.")
def resolve(name: str, as_json: bool, submit: bool, partition: str) -> None:
    """Print the path of the image that --container-name=NAME means.

    Exits with 1 if there is none, and names the nearest.

    --json prints an object: name; path; uri, tag, digest, size_bytes and modified, which are null where they are not
    known: a site plugin may choose a file elsewhere. Where there is no image, path is null, and error and nearest say
    more.
    """
    # Nothing but its own answer may keep a submission from going on: a typo in the configuration goes to syslog.
    on_failure = _log if submit else complain
    try:
        snapshot = load_config(on_failure if submit else None)
        path = _ask(ContainerName.parse(name).name, partition, snapshot, on_failure)
    except (SlurmFsxError, OSError) as error:
        if submit:
            click.echo(f"slurm-fsx: {printable(str(error))}", err=True)
        elif as_json and isinstance(error, ImageNotFound):
            click.echo(json.dumps(_describe_miss(name, error, snapshot.config), indent=2))
        else:
            raise
        raise SystemExit(1) from error
    click.echo(json.dumps(_describe_answer(name, path, snapshot.config), indent=2) if as_json else path)


@click.command()
def index() -> None:
    """Write the index; for root.

    By the index, srun and sbatch find an image without Python. Writing it takes two seconds more if an image has just
    come or gone.
    """
    if os.geteuid() != 0:
        raise SlurmFsxError("the index is believed only if root wrote it", hint="run this as root")
    snapshot = load_config()
    written, sites = refresh_index(snapshot, complain)
    meant = [path for _, path in written.entries()]
    path = index_path(snapshot.config.below_fsx("containers"))
    click.echo(f"{len(meant)} names of {len(set(meant))} images: {path}")
    if written.must_ask:
        reason = f"the site's say in names ({', '.join(sites)})" if sites else "plugins that are off or broken"
        click.echo(f"slurm-fsx: because of {reason}, each submission asks the plugins instead", err=True)
    if not written.is_complete:
        click.echo(
            "slurm-fsx: the folder keeps changing, so submissions do not use this index: run this again", err=True
        )


def _print_images(listing: Listing, uses: Mapping[str, Use]) -> None:
    """Print the table; with the number of jobs that use an image only where there is any."""
    rows: list[tuple[str, ...]] = []
    for image in listing.images:
        names = listing.names(image)
        jobs = len(uses[_place(image)].jobs) if uses and _place(image) in uses else 0
        described = (image.name.tag, size(image.size_bytes), date(image.modified_s), str(jobs or ""), _file(image))
        rows.append((names[0] if names else "-", *described))
    head: tuple[str, ...] = ("name", "tag", "size", "date", "jobs", "file")
    if not any(row[4] for row in rows):
        head, rows = (*head[:4], head[5]), [(*row[:4], row[5]) for row in rows]
    print_table(head, rows)


def image_path(name: str, snapshot: Snapshot) -> str:
    """Give the path of the image that a container's name means.

    Raises:
        SlurmFsxError: there is none.
    """
    return _ask(ContainerName.parse(name).name, "", snapshot, complain)


def _ask(name: str, partition: str, snapshot: Snapshot, on_failure: Failure) -> str:
    """Ask the plugins, the site's first, for the path of an image."""
    plugins = load_plugins(snapshot, on_failure)
    path = plugins.call_first(RESOLVE_HOOK, name=name, partition=partition, config=snapshot.config)
    if path is None:
        raise ImageNotFound(f"no plugin knows an image called {name!r}", hint="see: slurm-fsx plugins list")
    if not isinstance(path, str) or not path.startswith("/") or not path.isprintable():
        raise ImageNotFound(f"a site plugin answered {path!r}, which is no absolute path", hint="mend that plugin")
    return path


def _log(what: str, error: BaseException) -> None:
    syslog.openlog("slurm-fsx", syslog.LOG_PID, syslog.LOG_USER)
    syslog.syslog(syslog.LOG_WARNING, printable(f"skipped at a submission: {what}: {error}"))


def _describe_listing(listing: Listing, records: dict[str, Record], uses: Mapping[str, Use]) -> dict[str, Any]:
    return {
        "folder": listing.folder,
        "images": [
            {
                "names": listing.names(image),
                **image.name._asdict(),
                "digest": image.name.digest or None,
                **_describe_file(image),
                "path": image.path,
                "record": _describe_record(records.get(_place(image))),
                "jobs": uses[_place(image)].ids if _place(image) in uses else [],
            }
            for image in sorted(listing.images)
        ],
        "short_names": {
            name: {"path": None, "error": str(answer)} if isinstance(answer, ImageNotFound) else {"path": answer.path}
            for name, answer in listing.short_names.items()
        },
        "rejects": [{"file": printable(reject.file), "reason": reject.reason} for reject in listing.rejects],
    }


def _describe_record(record: Record | None) -> dict[str, str] | None:
    if record is None:
        return None
    words = {key: str(getattr(record, key)) for key in ("uri", "digest", "architecture", "sha256", "importer")}
    return {**words, "imported": utc(record.imported_s)}


def _describe_answer(name: str, path: str, config: Config) -> dict[str, Any]:
    image = None
    folder, file = os.path.split(path)
    if folder == config.below_fsx("containers"):
        image = Catalogue(folder).image(file.removesuffix(SUFFIX))
    return {
        "name": name,
        "path": path,
        "uri": (image.name.uri or None) if image else None,
        "tag": image.name.tag if image else None,
        "digest": (image.name.digest or None) if image else None,
        **(_describe_file(image) if image else {"size_bytes": None, "modified": None}),
    }


def _describe_miss(name: str, error: ImageNotFound, config: Config) -> dict[str, Any]:
    catalogue = Catalogue(config.below_fsx("containers"))
    nearest = nearest_names(ContainerName.parse(name).name, catalogue, config)
    return {"name": name, "path": None, "error": error.message, "nearest": nearest}


def _describe_file(image: Image) -> dict[str, Any]:
    return {"size_bytes": image.size_bytes, "modified": utc(image.modified_s)}


def _meaning(answer: Image | ImageNotFound) -> str:
    return f"nothing: {answer.message}" if isinstance(answer, ImageNotFound) else _file(answer)


def _file(image: Image) -> str:
    name, place = image.stem + SUFFIX, _place(image)
    return name if name == place else f"{name} -> {place}"


def _place(image: Image) -> str:
    return image.path.rpartition("/")[2]
