"""Asks Prometheus by its HTTP API, ``/api/v1/query`` and ``/api/v1/query_range``.

Source of the format: Prometheus' documentation, "HTTP API". Whatever happens, an answer or an error comes in time.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import urllib.parse
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING, NamedTuple

from ...errors import SlurmFsxError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TIMEOUT_S = 10.0
LIMIT_BYTES = 64 << 20
"""Longer answers are refused: the machine's memory is not Prometheus'."""

_CONNECTIONS = {"http": HTTPConnection, "https": HTTPSConnection}


class PrometheusUnavailable(SlurmFsxError):
    """A Prometheus that does not answer, or not as Prometheus does."""


class QueryRefused(SlurmFsxError):
    """A query that Prometheus did not run, with its own words."""


class Series(NamedTuple):
    """What Prometheus has of one set of labels."""

    labels: Mapping[str, str]
    """``__name__`` among them, where the query kept it."""

    points: list[tuple[float, float]]
    """Seconds since 1970, and the value then; in the order of time."""

    @property
    def value(self) -> float:
        """The newest value."""
        return self.points[-1][1]


class PrometheusClient:
    """Asks one Prometheus, never by a proxy.

    Args:
        url: Where it is, e.g. ``http://127.0.0.1:9090``; a path in front of the API's own may follow.
        timeout_s: How long one answer may take, from asking to its last byte.

    Raises:
        PrometheusUnavailable: the address is none of HTTP.
    """

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S) -> None:
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._late = f"its answer was not complete within {timeout_s:g} s"
        try:
            self._parts = urllib.parse.urlsplit(url)
            is_http = bool(self._parts.hostname) and self._parts.port != 0
        except ValueError:
            is_http = False
        if not is_http or self._parts.scheme not in _CONNECTIONS:
            raise PrometheusUnavailable(
                f"{url!r} is no address of a Prometheus", hint="write monitoring.prometheus_url as http://HOST:9090"
            )
        self._connection = _CONNECTIONS[self._parts.scheme]

    def query(self, promql: str, at_s: float | None = None) -> list[Series]:
        """Give what a query yields at a time, now unless told: one point each, or all of a range like ``up[5m]``.

        Raises:
            PrometheusUnavailable: there is no answer in time, or none of a Prometheus.
            QueryRefused: it cannot run the query.
        """
        at = {} if at_s is None else {"time": f"{at_s:.3f}"}
        return self._ask("query", {"query": promql, **at})

    def query_range(self, promql: str, start_s: float, end_s: float, step_s: float) -> list[Series]:
        """Give what a query yields from one time to another, a point for each step where there is one.

        Raises:
            PrometheusUnavailable, QueryRefused: as for `query`.
        """
        span = {"start": f"{start_s:.3f}", "end": f"{end_s:.3f}", "step": f"{step_s:.3f}"}
        return self._ask("query_range", {"query": promql, **span})

    def _ask(self, kind: str, fields: Mapping[str, str]) -> list[Series]:
        # Prometheus takes no fraction of a unit here.
        fields = {**fields, "timeout": f"{max(1, round(self._timeout_s * 1000))}ms"}
        connection = self._connection(self._parts.netloc.rpartition("@")[2], timeout=self._timeout_s)
        is_late = threading.Event()
        # Each read alone could take that long: a server that sends a byte at a time would never be given up.
        timer = threading.Timer(self._timeout_s, lambda: _hang_up(is_late, connected))
        timer.daemon = True
        try:
            connection.connect()
            connected: socket.socket = connection.sock  # which the connection forgets where the server will close it
            timer.start()
            # By POST: a query about a thousand nodes is longer than a URL may be.
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            path = f"{self._parts.path.rstrip('/')}/api/v1/{kind}"
            connection.request("POST", path, urllib.parse.urlencode(fields), form)
            response = connection.getresponse()
            text = response.read(LIMIT_BYTES + 1)
        except (OSError, ValueError, HTTPException) as error:
            reason = self._late if is_late.is_set() else getattr(error, "strerror", None) or str(error)
            raise self._unavailable(reason) from error
        finally:
            timer.cancel()
            connection.close()
        if is_late.is_set():
            raise self._unavailable(self._late)
        if len(text) > LIMIT_BYTES:
            raise self._unavailable(f"its answer is longer than {LIMIT_BYTES >> 20} MiB")
        if response.status != HTTPStatus.OK:
            raise self._refusal(response.status, response.reason, text)
        return self._series(text)

    def _series(self, text: bytes) -> list[Series]:
        try:
            answer = json.loads(text)
            if answer["status"] != "success":
                raise QueryRefused(f"Prometheus at {self.url}: {answer['error']}")
            data = answer["data"]
            if data["resultType"] not in ("vector", "matrix"):
                raise self._unavailable(f"it gave a {data['resultType']}")
            return [
                Series(
                    dict(each["metric"]),
                    [
                        (float(when), float(value))
                        for when, value in (each["values"] if "values" in each else [each["value"]])
                    ],
                )
                for each in data["result"]
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise self._unavailable("what answers there is no Prometheus") from error

    def _refusal(self, status: int, reason: str, text: bytes) -> SlurmFsxError:
        try:
            said = str(json.loads(text)["error"])
        except (ValueError, KeyError, TypeError):
            return self._unavailable(f"it answered {status} {reason}")
        if status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY):
            return QueryRefused(f"Prometheus at {self.url}: {said[:500]}")
        return self._unavailable(f"it answered {status}: {said[:500]}")

    def _unavailable(self, reason: str) -> PrometheusUnavailable:
        return PrometheusUnavailable(
            f"Prometheus at {self.url} does not answer: {reason}",
            hint="see whether it runs, and monitoring.prometheus_url",
        )


def quote(text: str) -> str:
    """Give a text as a string of PromQL."""
    return json.dumps(text, ensure_ascii=False)


def one_of(texts: Iterable[str]) -> str:
    """Give a string of PromQL that ``=~`` matches with these texts and no others."""
    return quote("|".join(re.escape(text) for text in texts))


def _hang_up(is_late: threading.Event, connected: socket.socket) -> None:
    is_late.set()
    with contextlib.suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)
