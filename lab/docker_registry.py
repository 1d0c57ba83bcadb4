"""A real registry on loopback, and small images to push into it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

_START_S = 30.0


def configuration(images: str, address: str) -> str:
    """Give the configuration of a docker-registry that serves a folder of images by HTTP."""
    return (
        "version: 0.1\n"
        "log: {level: info, accesslog: {disabled: false}}\n"
        f"storage: {{filesystem: {{rootdirectory: {images}}}}}\n"
        f"http: {{addr: '{address}'}}\n"
    )


class DockerRegistry:
    """A ``docker-registry`` of one's own, with HTTP on a free port; a context manager.

    Args:
        folder: For its configuration, its images and its log; it is made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / "log"
        self.images = folder / "images"
        """What it has: another docker-registry can serve this folder."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.name = f"localhost:{port}"
        """What images are called by, ``localhost:PORT``."""
        folder.mkdir(parents=True)
        (folder / "config.yml").write_text(configuration(str(self.images), self.name))

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
        with tempfile.TemporaryDirectory() as scratch:
            Path(scratch, "payload").write_bytes(os.urandom(size_bytes))
            return self.push_folder(repository, tag, Path(scratch), "/data")

    def push_image(self, repository: str, tag: str, image: Path) -> str:
        """Push what is in a squashfs image; give its URI."""
        with tempfile.TemporaryDirectory() as scratch:
            root = Path(scratch, "root")
            subprocess.run(["unsquashfs", "-quiet", "-no-progress", "-dest", root, image], check=True)
            return self.push_folder(repository, tag, root, "/")

    def push_folder(self, repository: str, tag: str, folder: Path, place: str) -> str:
        """Push an image with one layer, which has a folder's content at a place; give its URI."""
        target = f"docker://{self.name}/{repository}:{tag}"
        # The format that docker push makes, which enroot can take from this registry, too.
        copy = ["skopeo", "--insecure-policy", "copy", "--format=v2s2", "--dest-tls-verify=false"]
        with tempfile.TemporaryDirectory() as scratch:
            layout = f"{scratch}/layout"
            for command in (
                ["umoci", "init", "--layout", layout],
                ["umoci", "new", "--image", f"{layout}:image"],
                ["umoci", "insert", "--rootless", "--image", f"{layout}:image", str(folder), place],
                [*copy, f"oci:{layout}:image", target],
            ):
                subprocess.run(command, check=True, capture_output=True)
        return target

    def asked(self, method: str, what: str) -> int:
        """Count the requests for ``manifests`` or ``blobs`` that were answered."""
        return count_asked(self._log.read_text(), method, what)


def count_asked(log: str, method: str, what: str) -> int:
    """Count the requests for ``manifests`` or ``blobs`` that a docker-registry has answered, by its log."""
    pattern = re.compile(rf'"{method} /v2/[^"]*/{what}/[^"]*" 200 ')
    return sum(bool(pattern.search(line)) for line in log.splitlines())
