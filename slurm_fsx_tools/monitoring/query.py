"""Asks Prometheus by its HTTP API, ``/api/v1/query`` and ``/api/v1/query_range``.

Source of the format: Prometheus' documentation, "HTTP API". Whatever happens, an answer or an error comes in time.
"""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import SlurmFsxError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TIMEOUT_S = 10.0
LIMIT_BYTES = 64 << 20
"""Longer answers are refused: the machine's memory is not Prometheus'."""

_CHUNK_BYTES = 1 << 20


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
        try:
            parts = urllib.parse.urlsplit(url)
            is_http = parts.scheme in ("http", "https") and bool(parts.hostname)
        except ValueError:
            is_http = False
        if not is_http:
            raise PrometheusUnavailable(
                f"{url!r} is no address of a Prometheus", hint="write monitoring.prometheus_url as http://HOST:9090"
            )
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

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
        fields = {**fields, "timeout": f"{self._timeout_s:g}s"}
        # By POST: a query about a thousand nodes is longer than a URL may be.
        data = urllib.parse.urlencode(fields).encode()
        request = urllib.request.Request(f"{self.url}/api/v1/{kind}", data)  # noqa: S310 - the scheme was checked
        end_s = time.monotonic() + self._timeout_s
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                text = self._read(response, end_s)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error) from None
        except (OSError, ValueError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise self._unavailable(f"{getattr(reason, 'strerror', None) or reason}") from error
        return self._series(text)

    def _read(self, response: Any, end_s: float) -> bytes:
        """Read an answer under one time limit: each read alone could take that long."""
        parts: list[bytes] = []
        size = 0
        while True:
            part = response.read1(_CHUNK_BYTES)
            if not part:
                return b"".join(parts)
            parts.append(part)
            size += len(part)
            if size > LIMIT_BYTES:
                raise self._unavailable(f"its answer is longer than {LIMIT_BYTES >> 20} MiB")
            if time.monotonic() > end_s:
                raise self._unavailable(f"its answer was not complete within {self._timeout_s:g} s")

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

    def _refusal(self, error: urllib.error.HTTPError) -> SlurmFsxError:
        try:
            said = str(json.loads(error.read(_CHUNK_BYTES))["error"])
        except (OSError, ValueError, KeyError, TypeError):
            return self._unavailable(f"it answered {error.code} {error.reason}")
        if error.code in (400, 422):
            return QueryRefused(f"Prometheus at {self.url}: {said[:500]}")
        return self._unavailable(f"it answered {error.code}: {said[:500]}")

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
