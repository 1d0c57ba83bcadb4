"""A real registry on loopback, and small images to push into it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

_START_S = 30.0


class DockerRegistry:
    """A ``docker-registry`` of one's own, with HTTP on a free port; a context manager.

    Args:
        folder: For its configuration, its images and its log; it is made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / "log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.name = f"localhost:{port}"
        """What images are called by, ``localhost:PORT``."""
        folder.mkdir(parents=True)
        (folder / "config.yml").write_text(
            "version: 0.1\n"
            "log: {level: info, accesslog: {disabled: false}}\n"
            f"storage: {{filesystem: {{rootdirectory: {folder}/images}}}}\n"
            f"http: {{addr: 'localhost:{port}'}}\n"
        )

    def __enter__(self) -> DockerRegistry:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", self._folder / "config.yml"], stdout=log, stderr=log
            )
        end = time.monotonic() + _START_S
        while True:
            try:
                urllib.request.urlopen(f"http://{self.name}/v2/", timeout=5).close()
            except OSError:
                if self._process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"docker-registry did not start: {self._log.read_text()}") from None
                time.sleep(0.05)
            else:
                return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()

    def push(self, repository: str, tag: str = "latest", size_bytes: int = 1 << 16) -> str:
        """Push an image with one layer of random bytes; give its URI."""
        scratch = self._folder / f"push-{os.urandom(4).hex()}"
        (scratch / "root").mkdir(parents=True)
        (scratch / "root/payload").write_bytes(os.urandom(size_bytes))
        layout = f"{scratch}/layout"
        target = f"docker://{self.name}/{repository}:{tag}"
        for command in (
            ["umoci", "init", "--layout", layout],
            ["umoci", "new", "--image", f"{layout}:image"],
            ["umoci", "insert", "--rootless", "--image", f"{layout}:image", f"{scratch}/root", "/data"],
            ["skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", f"oci:{layout}:image", target],
        ):
            subprocess.run(command, check=True, capture_output=True)
        return target

    def asked(self, method: str, what: str) -> int:
        """Count the requests for ``manifests`` or ``blobs`` that were answered."""
        pattern = re.compile(rf'"{method} /v2/[^"]*/{what}/[^"]*" 200 ')
        return sum(bool(pattern.search(line)) for line in self._log.read_text().splitlines())
