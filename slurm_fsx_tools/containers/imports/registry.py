"""Questions to a registry: which manifest a tag means now, and what it consists of.

Source: OCI Distribution Specification, "Pulling manifests"; Docker Registry, "Token authentication specification".
"""

from __future__ import annotations

import email.utils
import hashlib
import json
import re
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, NamedTuple

from ...errors import (
    ImageNotInRegistry,
    RegistryBusy,
    RegistryDenied,
    RegistryError,
    RegistryUnavailable,
    RegistryUntrustworthy,
)
from .manifests import INDEXES, MANIFESTS, Manifest, choose, is_index

if TYPE_CHECKING:
    from collections.abc import Callable
    from email.message import Message

    from ..names import ImageName
    from .credentials import Credentials

ANSWER_LIMIT_BYTES = 4 << 20  # Source: OCI Distribution Specification: registries accept manifests of at least 4 MiB
TIMEOUT_S = 30.0
RETRY_AFTER_LIMIT_S = 3600.0
"""A registry that wants to be left alone for longer is asked after this time all the same."""

_ACCEPT = ", ".join((*INDEXES, *MANIFESTS))
_PARAMETER = re.compile(r'([A-Za-z0-9_-]+)="([^"]*)"')
_HOSTS = {"docker.io": "registry-1.docker.io"}


class _Answer(NamedTuple):
    status: int
    headers: Message
    body: bytes


class RegistryClient:
    """Asks one registry.

    Args:
        registry: ``nvcr.io``, ``localhost:5000``.
        credentials: Who we are; None for anybody.
        insecure_http: Speak plain HTTP, and send a password over it. Only for a registry on this machine, or a wire
            that nobody else can read.
        timeout_s: How long the registry may be silent.
        clock: Seconds since 1970, for a ``Retry-After`` that is a date.
    """

    def __init__(
        self,
        registry: str,
        credentials: Credentials | None = None,
        *,
        insecure_http: bool = False,
        timeout_s: float = TIMEOUT_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.registry = registry
        self._credentials = credentials
        self._insecure_http = insecure_http
        self._timeout_s = timeout_s
        self._clock = clock
        self._authorization = ""
        self._opener = urllib.request.build_opener(_Redirects(insecure_http))

    def digest(self, name: ImageName) -> str:
        """Give the digest of the manifest, or of the list of manifests, that a name means now.

        Raises:
            RegistryError: by one of its kinds, which say whether asking again may help.
        """
        if name.digest:
            return name.digest
        answer = self._ask(name, name.tag, "HEAD")
        digest = answer.headers.get("Docker-Content-Digest", "")
        if not re.fullmatch("sha256:[0-9a-f]{64}", digest):
            # The specification lets a registry leave it out of the answer to HEAD.
            return _digest_of(self._ask(name, name.tag, "GET").body)
        return digest

    def manifest(self, name: ImageName, digest: str, architecture: str) -> Manifest:
        """Give the manifest behind a digest, or, where that is of a list, the one for some processors.

        Args:
            name: The image.
            digest: As `digest` gave it.
            architecture: As the OCI image specification has it, e.g. ``amd64``.

        Raises:
            RegistryError: by one of its kinds; RegistryUntrustworthy where the content has another digest.
        """
        content = self._content(name, digest)
        if is_index(content):
            digest = choose(content, architecture, str(name))
            content = self._content(name, digest)
        return Manifest.parse(content, digest)

    def _content(self, name: ImageName, digest: str) -> bytes:
        body = self._ask(name, digest, "GET").body
        if _digest_of(body) != digest:
            raise RegistryUntrustworthy(
                f"{self.registry} gave a manifest of {name} whose digest is {_digest_of(body)} instead of {digest}",
                hint="see whether a proxy changes answers, or the registry is damaged",
            )
        return body

    def _ask(self, name: ImageName, reference: str, method: str) -> _Answer:
        scheme = "http" if self._insecure_http else "https"
        host = _HOSTS.get(self.registry, self.registry)
        url = f"{scheme}://{host}/v2/{name.repository}/manifests/{reference}"
        answer = self._open(url, method, self._authorization)
        if answer.status == 401:
            self._authorization = self._authorize(answer, name)
            answer = self._open(url, method, self._authorization)
        if answer.status != 200:
            raise self._error(answer, name)
        return answer

    def _authorize(self, answer: _Answer, name: ImageName) -> str:
        """Give the header that a registry asks for by ``WWW-Authenticate``."""
        for challenge in answer.headers.get_all("WWW-Authenticate", []):
            scheme, _, rest = challenge.partition(" ")
            if scheme.lower() == "bearer":
                return f"Bearer {self._token(dict(_PARAMETER.findall(rest)), name)}"
            if scheme.lower() == "basic" and self._credentials:
                return f"Basic {self._credentials.basic}"
        raise self._error(answer, name)

    def _token(self, parameters: dict[str, str], name: ImageName) -> str:
        realm = parameters.get("realm", "")
        query = {"scope": f"repository:{name.repository}:pull"}
        if "service" in parameters:
            query["service"] = parameters["service"]
        if self._credentials:
            query["account"] = self._credentials.user
        self._check_url(realm)
        separator = "&" if "?" in realm else "?"
        basic = f"Basic {self._credentials.basic}" if self._credentials else ""
        answer = self._open(f"{realm}{separator}{urllib.parse.urlencode(query)}", "GET", basic)
        if answer.status != 200:
            raise self._error(answer, name)
        try:
            document: dict[str, Any] = json.loads(answer.body)
            token = document.get("token") or document["access_token"]
        except (ValueError, KeyError, AttributeError) as error:
            raise RegistryUnavailable(f"{realm} gave no token for {name}", hint="try again later") from error
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise RegistryUnavailable(f"{realm} gave a token for {name} that is none", hint="try again later")
        return token

    def _check_url(self, url: str) -> None:
        if not url.startswith("https://") and not (self._insecure_http and url.startswith("http://")):
            raise RegistryError(
                f"{self.registry} sends us to {url[:200]!r} for a token, which is not secure",
                hint="use --insecure-http only where nobody else can read the wire",
            )

    def _open(self, url: str, method: str, authorization: str) -> _Answer:
        request = urllib.request.Request(url, method=method, headers={"Accept": _ACCEPT})  # noqa: S310  # see above
        if authorization:
            # Never sent on to where a registry redirects: that is another host, often a bucket.
            request.add_unredirected_header("Authorization", authorization)
        try:
            try:
                response = self._opener.open(request, timeout=self._timeout_s)
            except urllib.error.HTTPError as error:
                response = error
            with response:
                body = response.read(ANSWER_LIMIT_BYTES + 1)
                status = response.status if response.status is not None else 0
                if len(body) > ANSWER_LIMIT_BYTES:
                    raise RegistryError(f"{self.registry} gave more than {ANSWER_LIMIT_BYTES} bytes for a manifest")
                return _Answer(status, response.headers, body)
        except urllib.error.URLError as error:
            reason = error.reason
            raise self._silence(reason if isinstance(reason, OSError) else OSError(str(reason))) from error
        except (OSError, HTTPException) as error:
            raise self._silence(error) from error

    def _silence(self, error: BaseException) -> RegistryError:
        if isinstance(error, (socket.timeout, TimeoutError)):
            return RegistryUnavailable(
                f"{self.registry} did not answer within {self._timeout_s:g} s", hint="see whether it is up"
            )
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        hint = "see whether it is up, and whether this host may reach it"
        if "WRONG_VERSION_NUMBER" in str(error):
            hint = "it speaks plain HTTP: allow that by --insecure-http, where nobody else can read the wire"
        return RegistryUnavailable(f"{self.registry} cannot be asked: {text}", hint=hint)

    def _error(self, answer: _Answer, name: ImageName) -> RegistryError:
        detail = _detail(answer.body)
        said = f"{answer.status} ({detail})" if detail else str(answer.status)
        if answer.status in (401, 403):
            as_whom = f"as {self._credentials.user}" if self._credentials else "without a password"
            return RegistryDenied(
                f"{self.registry} refuses {_without_registry(name)} {as_whom}: {said}",
                hint=f"see the line of {self.registry} in enroot's .credentials, and the image's name",
            )
        if answer.status == 404:
            return ImageNotInRegistry(
                f"{self.registry} has no {_without_registry(name)}: {said}", hint="see the name and the tag"
            )
        retry_after_s = parse_retry_after(answer.headers.get("Retry-After", ""), self._clock())
        if answer.status == 429:
            return RegistryBusy(f"{self.registry} was asked too often: {said}", "try again later", retry_after_s)
        if answer.status >= 500 or answer.status == 408:
            return RegistryUnavailable(f"{self.registry} has trouble: {said}", "try again later", retry_after_s)
        return RegistryError(f"{self.registry} answered {said} for {name}", hint="see the image's name")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a registry elsewhere, but never from HTTPS to HTTP."""

    def __init__(self, insecure_http: bool) -> None:
        self._insecure_http = insecure_http

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.startswith("https://") and not self._insecure_http:
            return None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def parse_retry_after(value: str, now_s: float) -> float | None:
    """Give the seconds from now that a ``Retry-After`` asks for; None where it says nothing.

    Args:
        value: Seconds, or a date. Source: RFC 9110, section 10.2.3.
        now_s: Seconds since 1970.
    """
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), RETRY_AFTER_LIMIT_S)
    try:
        date = email.utils.parsedate_to_datetime(value)
        wait_s = date.timestamp() - now_s
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return min(max(wait_s, 0.0), RETRY_AFTER_LIMIT_S)


def _digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _without_registry(name: ImageName) -> str:
    return str(name)[len(name.registry) + 1 :]


def _detail(body: bytes) -> str:
    """Give the message of a registry's error, as far as it can be printed in a line."""
    try:
        error = json.loads(body)["errors"][0]
        text = str(error.get("message") or error["code"])
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return ""
    return text[:200] if text.isprintable() else repr(text[:200])
