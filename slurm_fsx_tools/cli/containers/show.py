"""``slurm-fsx containers list|resolve|index``: images in the catalogue, and what a container's name means."""

from __future__ import annotations

import json
import os
import sys
import syslog
import time
from typing import TYPE_CHECKING, Any

import click

from ...config.origin import config_path
from ...config.snapshot import load_snapshot
from ...containers.catalogue import Catalogue
from ...containers.index import index_path, update_index
from ...containers.names import SUFFIX, ContainerName, tag_order
from ...containers.resolution import answers, nearest_names
from ...errors import ImageNotFound, SlurmFsxError
from ...node.journal import printable
from ...plugins import load_plugins

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...config.model import Config, Snapshot
    from ...containers.catalogue import Image
    from ...containers.names import TagOrder
    from ...plugins import Failure, PluginSet

RESOLVE_HOOK = "slurm_fsx_resolve_container"
BUILTIN = "containers"

DRAWN_ROWS = 1000
"""How many rows rich may draw: it takes a second for some thousand."""


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print an object.")
def list_images(as_json: bool) -> None:
    """List the images, and what each short name means now.

    Files that are no images are named on stderr, with the reason.

    --json prints an object: folder; images, each with names (the shortest first), registry, repository, tag, digest,
    size_bytes, modified and path; short_names, each with its path, or null and the error; rejects, each with file and
    reason.
    """
    snapshot = _load_config()
    catalogue = Catalogue.scan(snapshot.config.below_fsx("containers"))
    found = answers(catalogue, snapshot.config)
    names = _names_by_stem(catalogue, found)
    short = _short_names(catalogue, found, snapshot.config)
    if as_json:
        click.echo(json.dumps(_describe_catalogue(catalogue, names, short), indent=2))
        return
    images = sorted(catalogue.images, key=_by_name_and_version)
    _print_table(
        ("name", "tag", "size", "date", "file"),
        [
            (
                next(iter(names[image.stem]), "-"),
                image.name.tag,
                _size(image.size_bytes),
                _date(image.modified_s),
                _file(image),
            )
            for image in images
        ],
    )
    if short:
        click.echo()
        _print_table(("short name", "means now"), [(name, _meaning(answer)) for name, answer in short.items()])
    for reject in catalogue.rejects:
        click.echo(f"slurm-fsx: {printable(reject.file)} is not used: {reject.reason}", err=True)
    sites = _site_resolvers(load_plugins(snapshot, _complain))
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

    --json prints an object: name; path; uri, tag, digest, size_bytes and modified, which are null where a site plugin
    chose a file elsewhere. Where there is no image, path is null, and error and nearest say more.
    """
    # Nothing but its own answer may keep a submission from going on: a typo in the configuration goes to syslog.
    on_failure = _log if submit else _complain
    try:
        snapshot = _load_config(on_failure if submit else None)
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
    snapshot = _load_config()
    failed: list[str] = []

    def on_failure(what: str, error: BaseException) -> None:
        failed.append(what)
        _complain(what, error)

    plugins = load_plugins(snapshot, on_failure)
    sites = _site_resolvers(plugins)
    blocked = BUILTIN in snapshot.config["prolog.block"]
    written = update_index(snapshot.config, must_ask=bool(sites or failed or blocked))
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


def _ask(name: str, partition: str, snapshot: Snapshot, on_failure: Failure) -> str:
    """Ask the plugins, the site's first, for the path of an image."""
    plugins = load_plugins(snapshot, on_failure)
    path = plugins.call_first(RESOLVE_HOOK, name=name, partition=partition, config=snapshot.config)
    if path is None:
        raise ImageNotFound(f"no plugin knows an image called {name!r}", hint="see: slurm-fsx plugins list")
    if not isinstance(path, str) or not path.startswith("/") or not path.isprintable():
        raise ImageNotFound(f"a site plugin answered {path!r}, which is no absolute path", hint="mend that plugin")
    return path


def _load_config(on_failure: Failure | None = None) -> Snapshot:
    return load_snapshot(config_path(os.environ), on_failure=on_failure)


def _site_resolvers(plugins: PluginSet) -> list[str]:
    return [impl.plugin for impl in plugins.implementations(RESOLVE_HOOK) if impl.plugin != BUILTIN]


def _complain(what: str, error: BaseException) -> None:
    click.echo(f"slurm-fsx: skipped: {printable(f'{what}: {error}')}", err=True)


def _log(what: str, error: BaseException) -> None:
    syslog.openlog("slurm-fsx", syslog.LOG_PID, syslog.LOG_USER)
    syslog.syslog(syslog.LOG_WARNING, printable(f"skipped at a submission: {what}: {error}"))


def _names_by_stem(catalogue: Catalogue, found: dict[str, Image | ImageNotFound]) -> dict[str, list[str]]:
    """Give the names that mean each image now, the shortest first; none where an alias has taken the only one."""
    names: dict[str, list[str]] = {image.stem: [] for image in catalogue.images}
    for name, answer in found.items():
        if not isinstance(answer, ImageNotFound):
            names[answer.stem].append(name)
    return {stem: sorted(known, key=lambda name: (len(name), name)) for stem, known in names.items()}


def _short_names(
    catalogue: Catalogue, found: dict[str, Image | ImageNotFound], config: Config
) -> dict[str, Image | ImageNotFound]:
    """Give what each alias, and each repository's last part, means now."""
    short = {image.name.short_name for image in catalogue.images}.union(config["containers.aliases"])
    return {name: found[name] for name in sorted(short) if name in found}


def _describe_catalogue(
    catalogue: Catalogue, names: dict[str, list[str]], short: dict[str, Image | ImageNotFound]
) -> dict[str, Any]:
    return {
        "folder": catalogue.folder,
        "images": [
            {
                "names": names[image.stem],
                **image.name._asdict(),
                **_describe_file(image),
                "path": image.path,
            }
            for image in catalogue.images
        ],
        "short_names": {
            name: {"path": None, "error": str(answer)} if isinstance(answer, ImageNotFound) else {"path": answer.path}
            for name, answer in short.items()
        },
        "rejects": [{"file": printable(reject.file), "reason": reject.reason} for reject in catalogue.rejects],
    }


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
        "digest": image.name.digest if image else None,
        **(_describe_file(image) if image else {"size_bytes": None, "modified": None}),
    }


def _describe_miss(name: str, error: ImageNotFound, config: Config) -> dict[str, Any]:
    catalogue = Catalogue(config.below_fsx("containers"))
    nearest = nearest_names(ContainerName.parse(name).name, catalogue, config)
    return {"name": name, "path": None, "error": error.message, "nearest": nearest}


def _describe_file(image: Image) -> dict[str, Any]:
    modified = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(image.modified_s))
    return {"size_bytes": image.size_bytes, "modified": modified}


def _by_name_and_version(image: Image) -> tuple[str, str, TagOrder, str]:
    return (image.name.short_name, image.name.full_repository, tag_order(image.name.tag), image.stem)


def _meaning(answer: Image | ImageNotFound) -> str:
    return f"nothing: {answer.message}" if isinstance(answer, ImageNotFound) else _file(answer)


def _file(image: Image) -> str:
    name, place = image.stem + SUFFIX, os.path.basename(image.path)
    return name if name == place else f"{name} -> {place}"


def _size(size_bytes: int) -> str:
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns: drawn by rich on a terminal, else as plain text without trailing blanks."""
    if sys.stdout.isatty() and len(rows) <= DRAWN_ROWS:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False)
        for title in head:
            table.add_column(title, justify="right" if title == "size" else "left", overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))
        Console().print(table)
        return
    widths = [max(map(len, column)) for column in zip(head, *rows)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip() for row in (head, *rows)]
    click.echo("\n".join(lines))
