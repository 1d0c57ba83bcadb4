"""What a node exports to Prometheus, and whether it answers."""

from __future__ import annotations

import os

from ..errors import DeadlineExceeded, SlurmFsxError
from ..shared_fs import call_apart
from ..values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..config.model import Config

NVIDIA_DRIVER = "/proc/driver/nvidia/version"
"""There where NVIDIA's kernel module is loaded, whatever the number of GPUs."""

ASK_S = 0.2
"""How long a prolog waits for ports that neither accept nor refuse, all of them together."""

ANSWER_LIMIT_BYTES = 16 << 20
NODE, DCGM = "node_exporter", "dcgm-exporter"
_SIGNS = {NODE: (b"node_exporter_build_info",), DCGM: (b"DCGM_",)}
"""What the answers of exporters that we know contain. Source: their own documentation."""


class Exporter(NamedTuple):
    """A program on a node that answers Prometheus."""

    name: str
    """The label ``exporter`` of its metrics, e.g. ``node_exporter``."""

    port: int


def node_exporters(config: Config, driver: str = NVIDIA_DRIVER) -> list[Exporter]:
    """List the exporters that a node may have by itself: node_exporter, and dcgm-exporter where there is a GPU."""
    return usual_exporters(config, os.path.exists(driver))


def usual_exporters(config: Config, has_gpu: bool) -> list[Exporter]:
    """List the exporters of a node that nobody has asked."""
    exporters = [Exporter(NODE, config["monitoring.node_exporter_port"])]
    if has_gpu:
        exporters.append(Exporter(DCGM, config["monitoring.dcgm_exporter_port"]))
    return exporters


def listening(host: str, exporters: Iterable[Exporter], timeout_s: float = ASK_S) -> list[Exporter]:
    """Give the exporters whose port takes connections at a host's name, by which Prometheus will ask as well.

    Takes at most twice `timeout_s`, even where the name's resolution or a port hangs.
    """
    asked = list(exporters)
    try:
        answers = call_apart(lambda: _accepting(host, [each.port for each in asked], timeout_s), 2 * timeout_s)
    except (OSError, SlurmFsxError):  # no such name, or no answer about it
        return []
    return [exporter for exporter in asked if exporter.port in answers]


def answering(host: str, exporter: Exporter, timeout_s: float) -> str:
    """Get an exporter's metrics as Prometheus does, and say what is wrong with them; nothing where they are its own.

    Args:
        host: The node's name.
        exporter: One that we know must give its own metrics, any other what looks like metrics.
        timeout_s: How long the whole answer may take.
    """
    try:
        problem: str = call_apart(lambda: _look_at(host, exporter), timeout_s)
    except DeadlineExceeded:
        return f"no whole answer within {timeout_s:g} s"
    except OSError as error:
        return f"no answer: {error.strerror}"
    except SlurmFsxError as error:
        return error.message
    return problem


def _accepting(host: str, ports: list[int], timeout_s: float) -> list[int]:
    """Try all ports at all addresses of a host at a time; runs apart."""
    import select
    import socket
    import time

    pending = {}
    for port in ports:
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            attempt = socket.socket(family, kind, protocol)
            attempt.setblocking(False)
            attempt.connect_ex(address)
            pending[attempt] = port
    accepting = set()
    end = time.monotonic() + timeout_s
    while pending:
        ready = select.select([], list(pending), [], max(0.0, end - time.monotonic()))[1]
        if not ready:
            break
        for attempt in ready:
            port = pending.pop(attempt)
            if attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                accepting.add(port)
    return sorted(accepting)


def _look_at(host: str, exporter: Exporter) -> str:
    """Get ``/metrics``, and say what is wrong with it; runs apart."""
    import http.client

    connection = http.client.HTTPConnection(host, exporter.port)
    try:
        connection.request("GET", "/metrics", headers={"Accept": "text/plain"})
        response = connection.getresponse()
        text = response.read(ANSWER_LIMIT_BYTES)
    except http.client.HTTPException as error:
        return f"no HTTP: {type(error).__name__}"
    finally:
        connection.close()
    if response.status != http.client.OK:
        return f"/metrics gives {response.status}"
    if exporter.name in _SIGNS:
        missing = [sign for sign in _SIGNS[exporter.name] if sign not in text]
        return f"another program: /metrics has no {missing[0].decode()}" if missing else ""
    return "" if any(_is_sample(line) for line in text.splitlines()) else "another program: /metrics has no metric"


def _is_sample(line: bytes) -> bool:
    """Whether a line of an answer is ``NAME{LABELS} VALUE`` in Prometheus' text format."""
    if line.startswith((b"#", b"<")) or b" " not in line:
        return False
    try:
        float(line.rsplit(b"}", 1)[-1].split()[0 if b"}" in line else 1])
    except (ValueError, IndexError):
        return False
    return True
