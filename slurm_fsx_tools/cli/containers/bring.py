"""``slurm-fsx containers import|sync|status``: bring images into the catalogue, and see how far that is."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from ...containers.imports.folders import make_folders
from ...containers.imports.image_list import ImageList
from ...containers.imports.importers import IMPORTERS, choose_importer
from ...containers.imports.importing import plan_import
from ...containers.imports.log import ImportLog
from ...containers.imports.options import ImportOptions
from ...containers.imports.queue import exit_code, import_all
from ...containers.imports.state import DIED, FAILED, read_states
from ...containers.names import ImageName
from ...containers.refresh import refresh_index
from ...containers.store import Store
from ...errors import ConfigError, ImportFailed, SlurmFsxError
from ...files import read_trusted
from ...node.journal import printable
from ...programs import StopSign
from .progress import STYLES, choose_display
from .text import complain, date, explain, load_config, open_store, print_table, size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...config.model import Snapshot
    from ...containers.imports.queue import Outcome
    from ...containers.imports.state import ImportState, Progress

LIST_FILE = "config/containers.txt"
SHIPPED_LIST = "share/slurm-fsx/containers.txt"
_WATCH_EVERY_S = 1.0
_FAILURES_SHOWN_S = 7 * 24 * 3600.0


def _import_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that import and sync share."""
    for option in (
        click.option("--dry-run", is_flag=True, help="Ask the registry, say what would be done, and do nothing."),
        click.option("--background", is_flag=True, help="Return at once; see: slurm-fsx containers status --watch."),
        click.option("--force", is_flag=True,
                     help="Replace images that are there, unchanged ones and files of yours, too."),
        click.option("--with", "importer", type=click.Choice(IMPORTERS), default="auto", show_default=True,
                     help="What imports; with auto, enroot where it is installed, else skopeo."),
        click.option("--insecure-http", is_flag=True,
                     help="Speak plain HTTP, and send passwords over it: for a registry on this machine."),
        click.option("--arch", "architecture", type=click.Choice(["auto", "amd64", "arm64"]),
                     help="The nodes' processors; containers.architecture unless given."),
        click.option("--jobs", type=click.IntRange(1, 64), metavar="N",
                     help="How many images at a time; containers.jobs unless given."),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command("import")
@click.argument("uris", nargs=-1, required=True, metavar="URI...")
@_import_options
def import_images(uris: tuple[str, ...], **how: Any) -> None:
    """Bring images into the catalogue; for root.

    URI is docker://REGISTRY/REPOSITORY:TAG. An image whose digest is unchanged is not downloaded again. What was killed
    goes on by the same command. Passwords are taken from enroot's file, .config/enroot/.credentials at home.

    Exits with 0 if all images are there now, 1 if none, 3 if some.
    """
    _bring([ImageName.parse(uri) for uri in uris], 0, **how)


@click.command()
@click.argument("file", required=False, type=click.Path())
@_import_options
def sync(file: str | None, **how: Any) -> None:
    """Bring every image of a list into the catalogue; for root.

    FILE has one URI a line; without it FSX/config/containers.txt is taken, and where that is missing the list that came
    with this software. A line that makes no sense is reported, and the others are done. Nothing is removed: see prune.

    Exits with 0 if all images are there now, 1 if none, 3 if some.
    """
    images = _read_list(file)
    for mistake in images.mistakes:
        explain(str(mistake), mistake.hint)
    _bring(images.images, len(images.mistakes), **how)


@click.command()
@click.option("--watch", is_flag=True, help="Show it again every second, until no import is under way.")
@click.option("--all", "is_all", is_flag=True, help="Also imports that failed or died more than 7 days ago.")
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects.")
def status(watch: bool, is_all: bool, as_json: bool) -> None:
    """Show how far imports are, on whatever host they run, and how the last one of each image ended.

    --json prints for each image: file; uri; phase (waiting, checking, downloading, unpacking, building, verifying,
    done, unchanged, kept, failed, died); done_bytes, total_bytes (0 if unknown); host and pid; started_s and
    updated_s, in seconds since 1970; text.
    """
    store = open_store(load_config().config)

    def read() -> list[ImportState]:
        return [state for state in read_states(store) if is_all or not _is_past(state, time.time())]

    if as_json:
        click.echo(json.dumps([state._asdict() for state in read()], indent=2))
    elif not watch:
        _print_states(read())
    elif sys.stdout.isatty():
        _watch(read)
    else:
        while any(state.is_under_way for state in read()):
            _print_states(read())
            time.sleep(_WATCH_EVERY_S * 10)
        _print_states(read())


def _is_past(state: ImportState, now_s: float) -> bool:
    return state.phase in (FAILED, DIED) and now_s - state.updated_s > _FAILURES_SHOWN_S


def _read_list(file: str | None) -> ImageList:
    path = file
    if path is None:
        path = load_config().config.below_fsx(LIST_FILE)
        if not os.path.lexists(path):
            shipped = os.path.join(sys.prefix, SHIPPED_LIST)
            click.echo(f"slurm-fsx: {path} is missing: taking {shipped}", err=True)
            path = shipped
        # Whoever could write to it would choose what root imports for everybody.
        data = read_trusted(path)
    else:
        with open(path, "rb") as opened:
            data = opened.read()
    return ImageList.parse(data.decode(errors="surrogateescape"), path)


def _bring(
    names: Sequence[ImageName],
    mistakes: int,
    *,
    jobs: int | None,
    architecture: str | None,
    insecure_http: bool,
    importer: str,
    force: bool,
    background: bool,
    dry_run: bool,
) -> None:
    snapshot = load_config()
    config = snapshot.config
    store = open_store(config)
    jobs = min(jobs or config["containers.jobs"], max(len(names), 1))
    options = ImportOptions(
        architecture=architecture or config["containers.architecture"],
        importer=importer,
        insecure_http=insecure_http,
        scratch=config["containers.scratch"],
        registry_slots=config["containers.registry_slots"],
        processors=max((os.cpu_count() or 1) // jobs, 1),
        force=force,
        stop=StopSign(),
    )
    if dry_run:
        raise SystemExit(_print_plans(names, mistakes, store, options))
    if os.geteuid() != 0:
        raise SlurmFsxError(f"{store.folder} is root's, for every user", hint="run this by sudo")
    if not names:
        if mistakes:
            raise SystemExit(exit_code([], mistakes))
        raise ConfigError("the list names no image", hint="write one URI a line, e.g. nvcr.io/nvidia/pytorch:24.01-py3")
    make_folders(store)
    choose_importer(importer)
    log = ImportLog(config.below_fsx("logs"))
    if background:
        _detach(log)
    with options.stop.on_signals():
        code = _import(names, mistakes, snapshot, store, options, jobs, log)
    sys.exit(code)


def _import(
    names: Sequence[ImageName],
    mistakes: int,
    snapshot: Snapshot,
    store: Store,
    options: ImportOptions,
    jobs: int,
    log: ImportLog,
) -> int:
    """Import, publish, and give the exit code."""
    display = choose_display([name.file_name for name in dict.fromkeys(names)])

    def tell(progress: Progress) -> None:
        display.tell(progress)
        log.tell(progress)

    log.write(f"begun: {len(names)} images, {jobs} at a time")
    display.start()
    try:
        outcomes = import_all(names, store, options, jobs, tell)
    finally:
        display.stop()
    came = [outcome for outcome in outcomes if outcome.imported]
    try:
        if came:
            refresh_index(snapshot, complain)
    except (SlurmFsxError, OSError) as error:
        complain("the index", error)
    _print_failures(outcomes, log)
    code = exit_code(outcomes, mistakes)
    new = sum(outcome.imported is not None and outcome.imported.is_new for outcome in outcomes)
    summary = f"{len(came)} of {len(outcomes) + mistakes} images are there, {new} of them new"
    log.write(f"ended with {code}: {summary}")
    log.close()
    click.echo(f"slurm-fsx: {summary}; log: {log.path}", err=True)
    return code


def _print_failures(outcomes: Sequence[Outcome], log: ImportLog) -> None:
    for outcome in outcomes:
        error = outcome.error
        if error is None:
            continue
        _explain(outcome.name, error)
        if isinstance(error, ImportFailed):
            click.echo(f"           log: {log.images}/{outcome.name.file_name}.log", err=True)
        log.write(f"{outcome.name}: {printable(str(error))}")


def _explain(name: ImageName, error: SlurmFsxError | OSError) -> None:
    if isinstance(error, SlurmFsxError):
        explain(f"{name}: {error.message}", error.hint)
    else:
        explain(f"{name}: " + f"{error.filename or ''}: {error.strerror}".lstrip(": "), "")


def _print_plans(names: Sequence[ImageName], mistakes: int, store: Store, options: ImportOptions) -> int:
    rows, known = [], 0
    for name in dict.fromkeys(names):
        try:
            plan = plan_import(name, store, options)
        except (SlurmFsxError, OSError) as error:
            _explain(name, error)
            continue
        known += 1
        amount = size(plan.download_bytes) if plan.download_bytes else "-"
        rows.append((str(name), plan.action, amount, plan.digest or "-", plan.note))
    if rows:
        print_table(("image", "would be", "size", "digest", "because"), rows)
    if known == len(dict.fromkeys(names)) and not mistakes:
        return 0
    return 3 if known else 1


def _detach(log: ImportLog) -> None:
    """Go on as a process of its own, and end the one that the caller waits for."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        click.echo(f"importing in the background; log: {log.path}", err=True)
        click.echo("see how far it is: slurm-fsx containers status --watch", err=True)
        sys.stderr.flush()
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.chdir("/")


def _print_states(states: Sequence[ImportState]) -> None:
    if not states:
        click.echo("slurm-fsx: no imports to show: see slurm-fsx containers sync", err=True)
        return
    print_table(
        ("image", "state", "size", "host", "since", "note"),
        [
            (_name(state), state.phase, _amount(state), state.host, date(state.started_s), printable(state.text))
            for state in states
        ],
    )


def _name(state: ImportState) -> str:
    return printable(state.uri.partition("://")[2] or state.file)


def _amount(state: ImportState) -> str:
    if not state.done_bytes:
        return "-"
    if state.is_under_way and state.total_bytes:
        percent = 100 * state.done_bytes // state.total_bytes
        return f"{size(state.done_bytes)} of {size(state.total_bytes)} ({percent} %)"
    return size(state.done_bytes)


def _watch(read: Callable[[], list[ImportState]]) -> None:
    from rich.live import Live

    before: dict[str, ImportState] = {}
    with Live(refresh_per_second=4) as live:
        while True:
            states = read()
            live.update(_draw(states, before))
            if not any(state.is_under_way for state in states):
                return
            before = {state.file: state for state in states}
            time.sleep(_WATCH_EVERY_S)


def _draw(states: Sequence[ImportState], before: dict[str, ImportState]) -> Any:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for title in ("image", "state", "", "size", "rate", "host", "note"):
        table.add_column(title, overflow="fold")
    for state in states:
        bar: Any = ""
        if state.is_under_way:
            total = state.total_bytes or None
            bar = ProgressBar(total=total, completed=state.done_bytes, width=20, pulse=total is None)
        table.add_row(
            Text(_name(state)),
            Text(state.phase, style=STYLES.get(state.phase, "bold")),
            bar,
            _amount(state),
            _rate(state, before.get(state.file)),
            Text(state.host),
            Text(printable(state.text)),
        )
    return table


def _rate(state: ImportState, before: ImportState | None) -> str:
    if before is None or before.phase != state.phase or state.updated_s <= before.updated_s:
        return ""
    return f"{size(max(state.done_bytes - before.done_bytes, 0) / (state.updated_s - before.updated_s))}/s"
