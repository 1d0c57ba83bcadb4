"""``slurm-fsx containers verify|remove|prune``: see that images are whole, and let go of those that nobody needs."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from ...containers.care.pruning import DAY_S, Policy, judge
from ...containers.care.removing import check_removable, file_of, remove_image
from ...containers.care.user_caches import cache_owners, cached_images, clean_cache
from ...containers.care.verifying import AS_ROOT
from ...containers.care.verifying import verify as verify_image
from ...containers.catalogue import Catalogue
from ...containers.imports.layers import forget_old_layers
from ...containers.names import SUFFIX
from ...containers.records import read_records
from ...containers.refresh import refresh_index
from ...containers.store import Store
from ...errors import SlurmFsxError
from ...node.journal import printable
from ...uses import UNUSED, Activity, forget_ended, read_uses
from ..activity import ask_slurm, image_marks
from .text import complain, explain, load_config, open_store, print_table, say_empty, size

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from ...config.model import Config, Snapshot
    from ...containers.care.pruning import Verdict
    from ...containers.care.removing import Removal
    from ...containers.care.user_caches import CachedImage
    from ...containers.care.verifying import Verification
    from ...shared_lock import Owner

DEFAULT_KEEP = 1


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--quick", is_flag=True, help="Do not read whole files to compare their checksums.")
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects.")
def verify(names: tuple[str, ...], quick: bool, as_json: bool) -> None:
    """See whether images are whole, and as they were imported; all of them without a NAME.

    NAME is a file in the catalogue, or a URI. Looked at are the superblock, size and time, all folders inside, and the
    checksum of the whole file. An image without a record was not imported by this software; nothing is known of its
    bytes.

    Exits with 1 if an image is damaged or cannot be read; what to do is said behind it.

    --json prints for each image: file; state (ok, no record, not readable, damaged); problem and hint, or null;
    hashed; digest.
    """
    snapshot = load_config()
    store = open_store(snapshot.config)
    catalogue = Catalogue(store.folder)
    stems = [file_of(name, catalogue)[: -len(SUFFIX)] for name in names] or list(catalogue.names)
    catalogue.look_into(stems)
    recorded = {} if quick else read_records(store)
    total = sum(image.size_bytes for image in catalogue.images if image.stem + SUFFIX in recorded)
    with _progress(total) as on_bytes:
        looked = [verify_image(stem, store, catalogue, quick, on_bytes) for stem in stems]
    found = [verification for verification in looked if verification]
    if as_json:
        click.echo(json.dumps([_describe(verification) for verification in found], indent=2))
    elif found:
        print_table(("state", "file", "checked"), [(_state(each), each.file, _checked(each)) for each in found])
    else:
        say_empty(store.folder)
    damaged = [verification for verification in found if verification.problem]
    if not as_json:
        for each in damaged:
            explain(f"{each.file} is {_state(each)}: {each.problem}", each.hint)
    raise SystemExit(1 if damaged else 0)


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--force", is_flag=True, help="Also what an alias names or a job uses, and without asking Slurm.")
def remove(names: tuple[str, ...], force: bool) -> None:
    """Remove images, with their records.

    NAME is a file in the catalogue, or a whole URI; short names are not taken. An image that an alias or a link names,
    or that a running job has started from, stays, and so do all if Slurm cannot be asked who runs. Jobs that wait are
    not seen: one that was submitted for a removed image fails when it starts.

    Exits with 1 if an image stays.
    """
    snapshot = load_config()
    store = open_store(snapshot.config)
    _check_may_change(store)
    catalogue = Catalogue(store.folder)
    files = list(dict.fromkeys(file_of(name, catalogue) for name in names))
    uses = read_uses(store.uses, time.time())
    activity = Activity(()) if force else ask_slurm(snapshot.config, "images", "or remove them with --force")[0]
    removed, failed = [], 0
    for file in files:
        use = uses.get(file, UNUSED)
        try:
            if not force:
                check_removable(file, catalogue, snapshot.config, use, activity)
            removed.append(remove_image(file, store, None if force else use.jobs, _say_who_imports))
        except (SlurmFsxError, OSError) as error:
            failed += 1
            click.echo(f"slurm-fsx: {file} stays: {printable(str(error))}", err=True)
    _finish(removed, snapshot)
    raise SystemExit(1 if failed else 0)


@click.command()
@click.option("--keep", type=click.IntRange(min=0), metavar="N", help="Keep the newest N of each repository.")
@click.option(
    "--older-than",
    type=click.FloatRange(min=0),
    metavar="DAYS",
    help="Only images that came, and were used, before that.",
)
@click.option("--caches", is_flag=True, help="Instead, users' own imports that were not used for --older-than DAYS.")
@click.option("--yes", is_flag=True, help="Do it, instead of only saying what would go.")
@click.option("--dry-run", is_flag=True, help="Only say what would go; as without --yes.")
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects: file, size_bytes, goes, reason.")
def prune(keep: int | None, older_than: float | None, caches: bool, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Let go of images that are not needed any more; without --yes, only say which.

    An image goes if it is not among the newest N of its repository (1 without --keep) and if it came, and was last
    used, more than DAYS days ago; --yes wants one of the two. An image that an alias or a link names, or that a running
    job has started from, always stays; if Slurm cannot be asked who runs, all do. Jobs that wait are not seen: choose
    DAYS longer than your queue. The images of users who have running jobs stay in their caches. Layers that no import
    has used for a day go with --yes, too.
    """
    does = yes and not dry_run
    if (keep is None or caches) and older_than is None and (does or caches):
        raise SlurmFsxError(
            "nothing says which images to keep",
            hint="give --older-than DAYS" + ("" if caches else ", --keep N or both"),
        )
    snapshot = load_config()
    store = open_store(snapshot.config)
    if does:
        _check_may_change(store)
    if caches:
        raise SystemExit(_prune_caches(store, snapshot.config, older_than or 0, does, as_json))
    catalogue = Catalogue.scan(store.folder)
    uses = read_uses(store.uses, time.time())
    activity, _ = ask_slurm(snapshot.config, "images", "then try again")
    policy = Policy(DEFAULT_KEEP if keep is None else keep, older_than or 0)
    verdicts = judge(catalogue, snapshot.config, policy, read_records(store), uses, activity, time.time())
    _print_verdicts(verdicts, as_json)
    going = [verdict.image for verdict in verdicts if verdict.goes]
    if not does:
        total = sum(image.size_bytes for image in going)
        click.echo(
            _proposal(len(going), total, "--yes" if keep is not None or older_than is not None else "--keep 1 --yes"),
            err=True,
        )
        return
    removed, failed = [], 0
    for image in going:
        file = image.stem + SUFFIX
        try:
            removed.append(remove_image(file, store, uses.get(file, UNUSED).jobs, _say_who_imports))
        except (SlurmFsxError, OSError) as error:
            failed += 1
            click.echo(f"slurm-fsx: {file} stays: {printable(str(error))}", err=True)
    forget_ended(store.uses, uses, activity, image_marks(store).exists)
    _say_layers(forget_old_layers(store, time.time()))
    _finish(removed, snapshot)
    raise SystemExit(1 if failed else 0)


def _prune_caches(store: Store, config: Config, older_than_days: float, does: bool, as_json: bool) -> int:
    """Clean users' caches, or say what would go; give the exit code."""
    now_s = time.time()
    images = cached_images(store)
    _, busy = ask_slurm(config, "images", "then try again")
    going = [image for image in images if image.used_s < now_s - older_than_days * DAY_S and image.uid not in busy]
    gone: list[CachedImage] = []
    layer_bytes = failed = 0
    for uid in cache_owners(store) if does else ():
        if uid in busy:
            continue
        try:
            removed, freed_bytes = clean_cache(store, uid, [image for image in going if image.uid == uid], now_s)
        except (SlurmFsxError, OSError) as error:
            failed += 1
            click.echo(f"slurm-fsx: the cache of user {uid}: {printable(str(error))}", err=True)
            continue
        gone += removed
        layer_bytes += freed_bytes
    rows = [_cached_row(image, image in (gone if does else going), busy, now_s) for image in images]
    if as_json:
        click.echo(
            json.dumps([dict(zip(("uid", "file", "size_bytes", "goes", "reason"), row)) for row in rows], indent=2)
        )
    elif rows:
        shown = [
            (_goes(goes), str(uid), size(size_bytes), file, reason) for uid, file, size_bytes, goes, reason in rows
        ]
        print_table(("", "user", "size", "file", "why"), shown)
    _say_layers(layer_bytes)
    total = sum(image.size_bytes for image in (gone if does else going))
    done = f"{_images(len(gone))} removed, {size(total)} freed" if does else _proposal(len(going), total)
    click.echo(done, err=True)
    return 1 if failed else 0


def _cached_row(image: CachedImage, goes: bool, busy: Collection[int], now_s: float) -> tuple[int, str, int, bool, str]:
    used = f"last used {(now_s - image.used_s) / DAY_S:.0f} days ago"
    return image.uid, image.file, image.size_bytes, goes, "its user has a running job" if image.uid in busy else used


def _say_layers(freed_bytes: int) -> None:
    if freed_bytes:
        click.echo(f"layers of earlier imports removed, {size(freed_bytes)} freed", err=True)


def _say_who_imports(owner: Owner) -> None:
    click.echo(f"slurm-fsx: waiting for process {owner.pid} on {owner.host}, which imports this image", err=True)


def _check_may_change(store: Store) -> None:
    try:
        owner = os.stat(store.folder).st_uid
    except FileNotFoundError:
        return  # who lists it says so
    if os.geteuid() not in (0, owner):
        raise SlurmFsxError(f"the images in {store.folder} are not yours to remove", hint="run this as root")


def _finish(removed: Collection[Removal], snapshot: Snapshot) -> None:
    """Say what is gone, and tell submissions."""
    for removal in removed:
        click.echo(f"removed {removal.file}", err=True)
    freed_bytes = sum(removal.freed_bytes for removal in removed)
    click.echo(f"{_images(len(removed))} removed, {size(freed_bytes)} freed", err=True)
    if removed:
        refresh_index(snapshot, complain)


def _print_verdicts(verdicts: Collection[Verdict], as_json: bool) -> None:
    if as_json:
        rows = [
            {
                "file": verdict.image.stem + SUFFIX,
                "size_bytes": verdict.image.size_bytes,
                "goes": verdict.goes,
                "reason": verdict.reason,
            }
            for verdict in verdicts
        ]
        click.echo(json.dumps(rows, indent=2))
    elif verdicts:
        print_table(
            ("", "size", "file", "why"),
            [
                (_goes(verdict.goes), size(verdict.image.size_bytes), verdict.image.stem + SUFFIX, verdict.reason)
                for verdict in verdicts
            ],
        )


def _images(number: int) -> str:
    return "1 image" if number == 1 else f"{number} images"


def _proposal(number: int, size_bytes: int, how: str = "--yes") -> str:
    return f"{_images(number)} would go, {size(size_bytes)}: run this again with {how}"


def _goes(goes: bool) -> str:
    return "goes" if goes else "stays"


def _state(verification: Verification) -> str:
    if verification.hint == AS_ROOT:
        return "not readable"
    return "damaged" if verification.problem else "ok" if verification.record else "no record"


def _checked(verification: Verification) -> str:
    if verification.problem:
        return ""
    parts = ["superblock"]
    if verification.record:
        parts.append("size and time")
    if verification.is_listed:
        parts.append("folders")
    if verification.is_hashed:
        parts.append("checksum")
    return ", ".join(parts)


def _describe(verification: Verification) -> dict[str, Any]:
    return {
        "file": verification.file,
        "state": _state(verification),
        "problem": printable(verification.problem) or None,
        "hint": verification.hint or None,
        "hashed": verification.is_hashed,
        "digest": verification.record.digest if verification.record else None,
    }


@contextmanager
def _progress(total_bytes: int) -> Iterator[Callable[[int], None]]:
    """Show on a terminal how much has been read; elsewhere nothing."""
    if not total_bytes or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total_bytes)
        yield lambda more: progress.advance(task, more)
