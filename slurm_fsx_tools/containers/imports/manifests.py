"""What a registry's manifests say: which layers an image has, for which processors."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from ...errors import ImageNotInRegistry, RegistryUntrustworthy

INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
"""What the OCI image specification calls the processors that uname(2) names."""


class Blob(NamedTuple):
    """A file that a manifest names: a layer, or the configuration."""

    digest: str
    size_bytes: int


class Manifest(NamedTuple):
    """One image for one kind of processor."""

    digest: str
    """``sha256:HEX`` of the manifest itself: of this processor's, where the image has several."""

    config: Blob
    layers: tuple[Blob, ...]

    @classmethod
    def parse(cls, content: bytes, digest: str) -> Manifest:
        """Read an image's manifest.

        Raises:
            RegistryUntrustworthy: it is none.
        """
        try:
            document = json.loads(content)
            blobs = [document["config"], *document["layers"]]
            config, *layers = [Blob(_digest(blob["digest"]), _size(blob["size"])) for blob in blobs]
        except (ValueError, KeyError, TypeError) as error:
            raise RegistryUntrustworthy(
                f"the manifest {digest} is none of an image with layers", hint="push the image again by a newer tool"
            ) from error
        return cls(digest, config, tuple(dict.fromkeys(layers)))

    @property
    def blobs(self) -> tuple[Blob, ...]:
        return (self.config, *self.layers)

    @property
    def size_bytes(self) -> int:
        """What there is to download."""
        return sum(blob.size_bytes for blob in self.blobs)


def is_index(content: bytes) -> bool:
    """Whether this is a list of manifests for several kinds of processors."""
    try:
        document = json.loads(content)
    except ValueError:
        return False
    return isinstance(document, dict) and isinstance(document.get("manifests"), list)


def choose(content: bytes, architecture: str, image: str) -> str:
    """Give the digest of the manifest for some processors, from a list of them.

    Raises:
        ImageNotInRegistry: the list has none for them.
        RegistryUntrustworthy: it makes no sense.
    """
    offered = []
    try:
        for entry in json.loads(content)["manifests"]:
            platform: dict[str, Any] = entry.get("platform") or {}
            if platform.get("os") != "linux":
                continue
            if platform.get("architecture") == architecture:
                return _digest(entry["digest"])
            offered.append(str(platform.get("architecture")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RegistryUntrustworthy(f"the list of manifests of {image} makes no sense", hint="push it again") from error
    raise ImageNotInRegistry(
        f"{image} has no image for {architecture}, only for {', '.join(sorted(set(offered))) or 'nothing'}",
        hint="choose by --arch or containers.architecture",
    )


def architecture_of(machine: str) -> str:
    """Give the OCI image specification's name of what uname(2) calls the machine."""
    return _MACHINES.get(machine, machine)


def _digest(value: Any) -> str:
    algorithm, _, digits = str(value).partition(":")
    if algorithm != "sha256" or len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):
        raise ValueError(value)
    return f"{algorithm}:{digits}"


def _size(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError(value)
    return value
