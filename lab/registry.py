"""A real registry on loopback, images to put into it, and a proxy before it that has the faults registries have."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import socket
import subprocess
import tarfile
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from .errors import LabError

_START_S = 20.0
_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


class Layer(NamedTuple):
    """A layer: files by path; a path that ends with ``/`` is a folder, a value that is a str a link's target."""

    files: Mapping[str, bytes | str]

    def pack(self) -> bytes:
        """Give it as a compressed archive, the same for the same files."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for path, content in self.files.items():
                entry = tarfile.TarInfo(path.rstrip("/"))
                entry.mode = 0o755
                if path.endswith("/"):
                    entry.type = tarfile.DIRTYPE
                    tar.addfile(entry)
                elif isinstance(content, str):
                    entry.type, entry.linkname = tarfile.SYMTYPE, content
                    tar.addfile(entry)
                else:
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
        return gzip.compress(archive.getvalue(), 1, mtime=0)


def layer_of(image: Path) -> Layer:
    """Give what is in a squashfs image as a layer; modes and owners are not kept."""
    files: dict[str, bytes | str] = {}
    with tempfile.TemporaryDirectory(prefix="lab-layer-") as scratch:
        root = Path(scratch, "root")
        subprocess.run(["unsquashfs", "-quiet", "-no-progress", "-dest", root, image], check=True)
        for path in sorted(root.rglob("*")):
            name = str(path.relative_to(root))
            if path.is_symlink():
                files[name] = os.readlink(path)
            elif path.is_dir():
                files[f"{name}/"] = b""
            else:
                files[name] = path.read_bytes()
    return Layer(files)


class Image(NamedTuple):
    """An image for one kind of processor."""

    layers: Sequence[Layer]
    config: Mapping[str, Any] = {}
    architecture: str = "amd64"


def configuration(data: str, address: str) -> str:
    """Give docker-registry's configuration for a folder of images, served by HTTP, with each request in its log."""
    return json.dumps(  # YAML can be written as JSON
        {
            "version": 0.1,
            "log": {"level": "error", "accesslog": {"disabled": False}},
            "storage": {"filesystem": {"rootdirectory": data}},
            "http": {"addr": address},
        }
    )


def count_asked(log: str, method: str, what: str) -> int:
    """Count the requests for ``manifests`` or ``blobs`` that a docker-registry has fulfilled, by its log."""
    pattern = re.compile(rf'"{method} /v2/[^"]*/{what}/[^"]*" 200 ')
    return sum(bool(pattern.search(line)) for line in log.splitlines())


class Registry:
    """Debian's docker-registry, with a folder of its own.

    Args:
        folder: Where it keeps everything.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.data = folder / "data"
        """What it has: another docker-registry can serve this folder."""

    def __enter__(self) -> Registry:
        config = self._folder / "registry.json"
        config.write_text(configuration(str(self.data), self.host))
        with open(self._folder / "registry.log", "wb") as log:
            self._process = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log)
        wait_for_port(self.port, self._process, self._folder / "registry.log")
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def asked(self, method: str, what: str) -> int:
        """Count the requests for ``manifests`` or ``blobs`` that it has fulfilled."""
        return count_asked((self._folder / "registry.log").read_text(), method, what)

    def push(self, name: str, *images: Image, docker_format: bool = False) -> str:
        """Put an image, or a list of images for several processors, under ``REPOSITORY:TAG``; give its digest.

        Args:
            name: ``lab/small:1``.
            images: One for each kind of processor.
            docker_format: With Docker's own kinds of manifests instead of OCI's.
        """
        with tempfile.TemporaryDirectory(prefix="lab-push-") as scratch:
            layout = _Layout(Path(scratch))
            manifests = [layout.add_image(image) for image in images]
            top = manifests[0]
            if len(images) > 1:
                top = layout.add(_INDEX, _json({"schemaVersion": 2, "mediaType": _INDEX, "manifests": manifests}))
            layout.finish(top)
            how = ["--format", "v2s2"] if docker_format else ["--all"]
            target = f"docker://{self.host}/{name}"
            pushed = subprocess.run(
                ["skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", *how, f"oci:{scratch}:top", target],
                capture_output=True,
                text=True,
            )
            if pushed.returncode:
                raise LabError(f"skopeo could not push {name}: {pushed.stderr.strip()}")
        repository, _, tag = name.partition(":")
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        accept = f"{_INDEX}, {_MANIFEST}, application/vnd.docker.distribution.manifest.v2+json"
        connection.request("HEAD", f"/v2/{repository}/manifests/{tag}", headers={"Accept": accept})
        digest = connection.getresponse().headers["Docker-Content-Digest"]
        connection.close()
        return str(digest)


class _Layout:
    """An OCI image layout, in which an image is built."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "blobs/sha256").mkdir(parents=True)
        (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def add(self, kind: str, content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        (self._folder / "blobs/sha256" / digest).write_bytes(content)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}

    def add_image(self, image: Image) -> dict[str, Any]:
        packed = [layer.pack() for layer in image.layers]
        config = {
            "architecture": image.architecture,
            "os": "linux",
            "config": dict(image.config),
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(gzip.decompress(layer)).hexdigest()}" for layer in packed],
            },
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": self.add(_CONFIG, _json(config)),
            "layers": [self.add(_LAYER, layer) for layer in packed],
        }
        platform = {"architecture": image.architecture, "os": "linux"}
        return {**self.add(_MANIFEST, _json(manifest)), "platform": platform}

    def finish(self, top: dict[str, Any]) -> None:
        named = {**top, "annotations": {"org.opencontainers.image.ref.name": "top"}}
        (self._folder / "index.json").write_bytes(_json({"schemaVersion": 2, "manifests": [named]}))


Fault = Callable[["_Handler"], bool]
"""Answers a request itself, and says True; or lets it through, and says False."""


class FaultyProxy(ThreadingHTTPServer):
    """Stands before a registry, and has faults.

    Args:
        registry: Where requests go.
    """

    daemon_threads = True

    def __init__(self, registry: Registry) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream_port = registry.port
        self.host = f"127.0.0.1:{self.server_address[1]}"
        self.faults: list[Fault] = []
        """Asked in order for each request."""
        self.seen: Counter[str] = Counter()
        """How often each ``METHOD PATH`` was answered from the registry."""
        self.times: list[tuple[float, str]] = []
        """When each request came, by time.monotonic()."""
        self.change: Callable[[str, bytes], bytes | None] = lambda _path, body: body
        """Changes what the registry says; None to send half of it, then nothing, and keep the connection open."""
        self.cut_short: Callable[[str], bool] = lambda _path: False
        """Whether half of an answer is left out, and the connection closed."""
        self.ending = threading.Event()

    def downloads(self, digest: str) -> int:
        """How often a blob was downloaded."""
        return sum(count for what, count in self.seen.items() if what.startswith("GET") and what.endswith(digest))

    @contextmanager
    def running(self) -> Iterator[FaultyProxy]:
        """Serve in a thread."""
        thread = threading.Thread(target=self.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield self
        finally:
            self.ending.set()
            self.shutdown()
            self.server_close()
            thread.join()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that were killed hang up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyProxy

    def do_GET(self) -> None:  # http.server's name
        self.server.times.append((time.monotonic(), f"{self.command} {self.path}"))
        if any(fault(self) for fault in self.server.faults):
            return
        connection = HTTPConnection("127.0.0.1", self.server.upstream_port, timeout=20)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():  # a name may come several times
                if name.lower() != "authorization":
                    connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        self.server.seen[f"{self.command} {self.path}"] += 1
        changed = self.server.change(self.path, body)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in ("transfer-encoding", "connection"):
                self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if changed is None:
            self.wfile.write(body[: len(body) // 2])
            self.server.ending.wait()
        elif self.server.cut_short(self.path):
            self.wfile.write(changed[: len(changed) // 2])
            self.close_connection = True
        else:
            self.wfile.write(changed)

    do_HEAD = do_GET  # noqa: N815

    def say(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        """Answer without the registry."""
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def failing(times: int, status: int, headers: Mapping[str, str] | None = None, path: str = "/manifests/") -> Fault:
    """Give a fault: the first requests for paths that hold a text get an error."""
    left = [times]

    def answer(handler: _Handler) -> bool:
        if path not in handler.path or not left[0]:
            return False
        left[0] -= 1
        handler.say(status, headers or {})
        return True

    return answer


def wanting_token(host: Callable[[], str], user: str, password: str) -> Fault:
    """Give a fault: who has no token is sent to get one, and only this user gets it."""
    token = "a-token-that-nobody-must-see"
    basic = f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"

    def answer(handler: _Handler) -> bool:
        if handler.path.startswith("/token?"):
            if handler.headers.get("Authorization") != basic:
                handler.say(401, {}, b'{"errors": [{"code": "UNAUTHORIZED", "message": "wrong password"}]}')
            else:
                handler.say(200, {"Content-Type": "application/json"}, _json({"token": token}))
            return True
        if handler.headers.get("Authorization") == f"Bearer {token}":
            return False
        challenge = f'Bearer realm="http://{host()}/token",service="lab",scope="repository:lab/small:pull"'
        handler.say(401, {"WWW-Authenticate": challenge})
        return True

    return answer


def free_port() -> int:
    """Give a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a daemon listens."""
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise LabError(f"{process.args} does not listen on {port}: {log.read_text(errors='replace')[-2000:]}")


def busybox_layer(extra: Mapping[str, bytes | str] | None = None) -> Layer:
    """Give a layer with a shell, so that containers start."""
    busybox = Path(shutil.which("busybox") or "/bin/busybox").read_bytes()
    applets = {f"bin/{name}": "busybox" for name in ("sh", "cat", "env", "echo", "ls", "pwd", "mkdir", "sleep")}
    folders = {f"{name}/": "" for name in ("bin", "dev", "etc", "proc", "sys", "tmp", "root")}
    return Layer(
        {**folders, "bin/busybox": busybox, **applets, "etc/passwd": b"root:x:0:0::/root:/bin/sh\n", **(extra or {})}
    )


def random_layer(path: str, size_bytes: int) -> Layer:
    """Give a layer that cannot be packed any smaller."""
    return Layer({path: os.urandom(size_bytes)})


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
