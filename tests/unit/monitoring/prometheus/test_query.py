"""Prometheus' HTTP API; what a real one answers is tried here, what only a broken one does by a few lines of server."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from slurm_fsx_tools.monitoring.prometheus.query import (
    PrometheusClient,
    PrometheusUnavailable,
    QueryRefused,
    one_of,
    quote,
)

from ..server import free_port, run_prometheus


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusClient]:
    """A real Prometheus that watches itself."""
    with run_prometheus(tmp_path_factory.mktemp("prometheus")) as client:
        yield client


def test_a_query_gives_labels_and_the_newest_value(prometheus: PrometheusClient) -> None:
    (series,) = prometheus.query('up{job="self"}')
    assert series.labels["__name__"] == "up"
    assert series.value == 1
    assert abs(series.points[-1][0] - time.time()) < 60


def test_a_range_gives_a_point_a_step(prometheus: PrometheusClient) -> None:
    (series,) = prometheus.query_range("vector(time())", 1000, 1010, 5)
    assert series.points == [(1000, 1000), (1005, 1005), (1010, 1010)]


def test_labels_are_asked_for_whatever_is_in_them(prometheus: PrometheusClient) -> None:
    hostile = 'a"}\\n\n.*|é'
    (series,) = prometheus.query(f'label_replace(vector(1), "l", {quote(hostile.replace("$", "$$"))}, "", "")')
    assert series.labels == {"l": hostile}
    assert prometheus.query(f"up{{job={quote(hostile)}}}") == []
    assert len(prometheus.query(f"up{{job=~{one_of(['n-1.x', 'self'])}}}")) == 1
    assert prometheus.query(f"up{{job=~{one_of(['s.lf', '.*'])}}}") == []


def test_a_long_query_is_no_trouble(prometheus: PrometheusClient) -> None:
    names = [f"gpu-queue-dy-p5-{number}" for number in range(10_000)]
    assert prometheus.query(f"up{{node=~{one_of(names)}}}") == []


def test_a_wrong_query_is_refused_in_prometheus_own_words(prometheus: PrometheusClient) -> None:
    with pytest.raises(QueryRefused, match="parse error"):
        prometheus.query("up{")


def test_where_nobody_listens_the_address_is_told() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(PrometheusUnavailable, match=f"{url} does not answer: Connection refused"):
        PrometheusClient(url).query("up")


def test_a_proxy_is_never_asked(prometheus: PrometheusClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    assert PrometheusClient(prometheus.url).query("up")


@pytest.mark.parametrize("url", ["", "prometheus:9090", "file:///etc/passwd", "http://", "http://[::1"])
def test_what_is_no_address_of_http_is_refused(url: str) -> None:
    with pytest.raises(PrometheusUnavailable, match="is no address of a Prometheus"):
        PrometheusClient(url)


@pytest.fixture
def server() -> Iterator[Callable[[bytes, float], str]]:
    """Makes a server of one answer, which it sends byte by byte, from the body on or wholly, where a pause is told."""
    listeners = []

    def make(answer: bytes, pause_s: float) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def serve() -> None:
            try:
                connection, _ = listener.accept()
                with connection:
                    asked = b""
                    while not asked.endswith(b"ms"):  # the limit comes last; what is left unread resets a connection
                        asked += connection.recv(65536)
                    at_once = len(OK) if answer.startswith(OK) else 0
                    connection.sendall(answer[:at_once] if pause_s else answer)
                    for place in range(at_once, len(answer)) if pause_s else ():
                        connection.sendall(answer[place : place + 1])
                        time.sleep(pause_s)
            except OSError:
                pass  # the client has gone

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield make
    for listener in listeners:
        listener.close()


OK = b"HTTP/1.0 200 OK\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(OK + b"<html>hello</html>", "what answers there is no Prometheus", id="a page"),
        pytest.param(OK + b"[]", "what answers there is no Prometheus", id="another shape"),
        pytest.param(OK + b'{"status":"success","data":{}}', "what answers there is no Prometheus", id="no result"),
        pytest.param(OK + b'{"status":"success","data":{"resultType":"scalar"}}', "it gave a scalar", id="a scalar"),
        pytest.param(b"HTTP/1.0 503 Busy\r\n\r\n", "it answered 503 Busy", id="busy"),
        pytest.param(b'HTTP/1.0 503 Busy\r\n\r\n{"error":"loading"}', "it answered 503: loading", id="loading"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n", "SSH-2.0", id="no HTTP"),
        pytest.param(b"", "closed connection", id="nothing"),
    ],
)
def test_an_answer_that_is_none_of_prometheus_is_told(server, answer: bytes, reason: str) -> None:
    with pytest.raises(PrometheusUnavailable, match=reason):
        PrometheusClient(server(answer, 0.0), timeout_s=10).query("up")


@pytest.mark.parametrize(
    ("answer", "pause_s"),
    [
        pytest.param(OK + b" " * 10_000, 0.05, id="never ends"),
        pytest.param(b"HTTP/1.0 200 OK\r\nX-Slow: " + b"x" * 10_000, 0.05, id="headers drip"),
        pytest.param(b"x", 60.0, id="never begins"),
    ],
)
def test_an_answer_that_is_not_there_in_time_is_given_up(server, answer: bytes, pause_s: float) -> None:
    url = server(answer, pause_s)
    started_s = time.monotonic()
    with pytest.raises(PrometheusUnavailable, match=r"not complete within 0\.5 s"):
        PrometheusClient(url, timeout_s=0.5).query("up")
    assert time.monotonic() - started_s < 20, "the drip would have lasted for minutes"


@pytest.mark.parametrize("timeout_s", [1.8, 0.7501, 30.0])
def test_prometheus_takes_any_time_limit(prometheus: PrometheusClient, timeout_s: float) -> None:
    assert PrometheusClient(prometheus.url, timeout_s).query("up")
