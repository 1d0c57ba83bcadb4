"""``slurm-fsx monitoring serve``: targets by HTTP, and a status page."""

from __future__ import annotations

import os
import signal
import threading
import time

import click

from ...config.origin import config_path
from ...config.snapshot import load_snapshot
from ...errors import SlurmFsxError
from ...monitoring.on_head.overview import LOOK_S, Observer, Other, format_discovery
from ...monitoring.on_head.serving import NOT_YET, Document, Server
from ...monitoring.on_head.status_page import render
from ...node.journal import printable
from ...slurm.choice import choose_client
from .features import count_imports, image_names, nccl_version

LISTEN = "127.0.0.1:8674"
STALE = 3
"""After how many intervals without an overview ``/healthz`` says so."""


@click.command()
@click.option(
    "--listen",
    default=LISTEN,
    show_default=True,
    metavar="HOST:PORT",
    help="Where it listens; whoever reaches that may read all of it.",
)
@click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(1),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How often Slurm and Prometheus are asked, whatever the number of visitors.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(1),
    default=LOOK_S,
    show_default=True,
    metavar="SECONDS",
    help="How long a look at the shared file system may take: where it hangs, the page says so.",
)
def serve(listen: str, interval_s: float, timeout_s: float) -> None:
    """Offer Prometheus' targets at /targets (http_sd), and a page that shows how the cluster is.

    Stays in the foreground, for systemd. /healthz answers 200 as long as what is shown is new.
    """
    config = load_snapshot(config_path(os.environ)).config
    address = _address(listen)
    try:
        server = Server(address)
    except OSError as error:
        raise SlurmFsxError(f"{listen}: {error.strerror}", hint="choose another address by --listen") from error
    observer = Observer(
        choose_client(),
        config,
        lambda: Other(image_names(config), count_imports(config), nccl_version(config)),
        server.let_go,
        timeout_s,
    )
    stop = threading.Event()

    def refresh() -> None:
        while not stop.is_set():
            overview = observer.look()
            targets = NOT_YET
            if overview.targets is not None:
                targets = Document("application/json", format_discovery(overview.targets))
            page = Document("text/html; charset=utf-8", render(overview, observer.cluster))
            server.documents = {"/": page, "/targets": targets}
            server.fresh_until_s = time.monotonic() + STALE * (interval_s + timeout_s)
            stop.wait(interval_s)

    signal.signal(signal.SIGTERM, lambda *_: _end())
    threading.Thread(target=refresh, daemon=True).start()
    click.echo(f"http://{listen.rpartition(':')[0]}:{server.server_port}/ shows how the cluster is", err=True)
    try:
        server.serve_forever()
    except (KeyboardInterrupt, SystemExit):
        stop.set()
        server.server_close()


def _end() -> None:
    raise SystemExit(0)


def _address(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise SlurmFsxError(f"{printable(listen)} is no HOST:PORT", hint=f"e.g. --listen {LISTEN}")
    return host.strip("[]"), int(port)
