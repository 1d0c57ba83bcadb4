from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from slurm_fsx_tools.monitoring.on_head import serving
from slurm_fsx_tools.monitoring.on_head.serving import Document, Server

TARGETS = json.dumps([{"targets": ["n1:9100"], "labels": {"node": "n1"}}] * 1000).encode()


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), connection_s=1.0) as server:
        server.documents = {"/": Document("text/html", b"<p>hello"), "/targets": Document("application/json", TARGETS)}
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server: Server, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


def test_a_document_is_given_with_headers_that_keep_a_browser_from_harm(server: Server) -> None:
    status, headers, body = ask(server, "GET", "/targets?refresh=1")
    assert (status, headers["Content-Type"], body) == (200, "application/json", TARGETS)
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Server"] == "slurm-fsx"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("HEAD", "/targets", 200),
        ("GET", "/nowhere", 404),
        ("HEAD", "/nowhere", 404),
        ("GET", "/../etc/passwd", 404),
        ("POST", "/", 405),
        ("DELETE", "/targets", 405),
        ("BREW", "/", 405),
    ],
)
def test_what_is_not_there_or_not_allowed_is_said(server: Server, method: str, path: str, status: int) -> None:
    code, headers, body = ask(server, method, path)
    assert code == status
    assert bool(body) == (method != "HEAD")
    assert headers.get("Allow") == ("GET, HEAD" if status == 405 else None)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *(("localhost:8674", 200), ("LOCALHOST", 200), ("127.0.0.1:9999", 200), ("[::1]:8674", 200), ("::1", 200)),
        *(("evil.example", 421), ("evil.example:8674", 421), ("localhost.evil.example", 421), ("127.0.0.1.nip", 421)),
    ],
)
def test_on_loopback_a_page_from_elsewhere_is_told_nothing(server: Server, host: str, status: int) -> None:
    assert ask(server, "GET", "/", Host=host)[0] == status


def test_before_anything_is_known_prometheus_is_told_to_keep_what_it_has() -> None:
    with Server(("127.0.0.1", 0)) as server:
        assert {server.documents[path].status for path in ("/", "/targets")} == {503}


def test_health_tells_whether_what_is_shown_is_new(server: Server) -> None:
    assert ask(server, "GET", "/healthz")[0] == 503
    server.fresh_until_s = time.monotonic() + 60
    assert ask(server, "GET", "/healthz")[::2] == (200, b"ok\n")


def test_rude_visitors_are_hung_up_on_and_keep_nobody_waiting(server: Server) -> None:
    rude = [socket.create_connection(("127.0.0.1", server.server_port)) for _ in range(serving.MOST_CONNECTIONS + 30)]
    try:
        for number, connection in enumerate(rude):
            try:
                connection.sendall(b"GET /targets HTTP/1.1\r\n" if number % 2 else b"")
            except OSError:
                pass  # hung up on already
        assert ask(server, "GET", "/targets")[2] == TARGETS
        for connection in rude:
            connection.settimeout(30)
            try:
                while connection.recv(1 << 16):
                    pass
            except ConnectionError:
                pass
    finally:
        for connection in rude:
            connection.close()
    assert ask(server, "GET", "/targets")[2] == TARGETS


def test_what_is_no_http_ends_no_server(server: Server) -> None:
    for data in (b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"A" * 100_000):
        with socket.create_connection(("127.0.0.1", server.server_port)) as connection:
            try:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(30)
                connection.recv(1 << 16)
            except OSError:  # it may have hung up before
                pass
    assert ask(server, "GET", "/")[0] == 200
