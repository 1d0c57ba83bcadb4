"""An HTTP server that hands out what was prepared, to many visitors, however slow or rude.

Nothing is asked for a visitor: documents are made at an interval, whole, and only given. Each connection has a thread
and a time to end by; where there are too many, the oldest is closed, which a visitor who behaves never is.
"""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from .status_page import STYLE_HASH

CONNECTION_S = 20.0
"""How long a visitor has to ask and to read."""

MOST_CONNECTIONS = 64
_HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src '{STYLE_HASH}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Document(NamedTuple):
    """An answer."""

    content_type: str
    body: bytes
    status: HTTPStatus = HTTPStatus.OK


NOT_YET = Document("text/plain; charset=utf-8", b"Nothing is known yet.\n", HTTPStatus.SERVICE_UNAVAILABLE)
"""Prometheus keeps the targets that it has, when it is told this."""


class Server(ThreadingHTTPServer):
    """Serves the documents that it is given, by path.

    Args:
        address: Host and port; port 0 for a free one.
        connection_s: How long a connection may last.

    Attributes:
        documents: What each path gives; replaced as a whole, so that a visitor sees documents of one time.
        fresh_until_s: When ``/healthz`` begins to say that the documents are too old, by the monotonic clock.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], connection_s: float = CONNECTION_S) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self.documents: dict[str, Document] = {"/": NOT_YET, "/targets": NOT_YET}
        self.fresh_until_s = 0.0
        self._connection_s = connection_s
        self._open: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # HTTPServer's own asks the resolver for a name that nobody needs, and that may hang.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open[request] = time.monotonic()
            oldest = next(iter(self._open)) if len(self._open) > MOST_CONNECTIONS else None
        if oldest is not None:
            _hang_up(oldest)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def let_go(self) -> None:
        """Close, in a copy of this process, what it has of this server: one that hangs must not keep the port."""
        for connection in (self.socket, *self._open):
            connection.close()

    def service_actions(self) -> None:
        """Close what takes too long; runs twice a second."""
        before = time.monotonic() - self._connection_s
        with self._lock:
            late = [request for request, since in self._open.items() if since < before]
        for request in late:
            _hang_up(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a visitor who hangs up is no error."""


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = CONNECTION_S

    def version_string(self) -> str:
        return "slurm-fsx"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def __getattr__(self, name: str) -> Any:
        # http.server calls do_METHOD for whatever method a visitor has made up.
        if name.startswith("do_"):
            return self._refuse
        raise AttributeError(name)

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/healthz":
            is_fresh = time.monotonic() < self.server.fresh_until_s
            document = _plain("ok") if is_fresh else _plain("what is shown is old", HTTPStatus.SERVICE_UNAVAILABLE)
        else:
            document = self.server.documents.get(path) or _plain("There is no such page.", HTTPStatus.NOT_FOUND)
        self._send(document)

    def _refuse(self) -> None:
        self._send(_plain("Only GET and HEAD.", HTTPStatus.METHOD_NOT_ALLOWED), {"Allow": "GET, HEAD"})

    def _send(self, document: Document, more: dict[str, str] | None = None) -> None:
        self.send_response(document.status)
        for name, value in {**_HEADERS, **(more or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Type", document.content_type)
        self.send_header("Content-Length", str(len(document.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(document.body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: Prometheus asks all day."""


def _plain(text: str, status: HTTPStatus = HTTPStatus.OK) -> Document:
    return Document("text/plain; charset=utf-8", f"{text}\n".encode(), status)


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has ended by itself
