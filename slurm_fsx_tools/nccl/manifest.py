"""What an NCCL version of ours in ``/fsx/nccl/versions`` is made of, and where everything about it is kept."""

from __future__ import annotations

from .. import json_text
from ..errors import SlurmFsxError
from ..values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORMAT = 1
FILE = "manifest.json"
CURRENT = "current"
"""The link, in the installation's folder, to the version that jobs get."""

VERSIONS = "versions"
USES = ".uses"
"""A folder for each version, with an empty file for each job that got it, named by the job's id."""

STAGING = ".staging"
ID_LIMIT = 100
_ID_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._+-")


class InvalidManifest(SlurmFsxError):
    """A manifest that nothing of ours has written, or that is damaged."""


class Manifest(NamedTuple):
    """What was installed, from where, with what. Made of what json can carry; empty texts stand for unknown or none."""

    id: str
    """The folder's name, e.g. ``2.28.7-1_ofi-1.17.2-aws_cuda-13.0_x86_64``."""

    nccl: str
    """NCCL's version, e.g. ``2.28.7-1``."""

    ofi: str
    """The AWS OFI NCCL plugin's, e.g. ``1.17.2-aws``; empty where there is none in it."""

    ofi_folder: str
    """Where the plugin's library is: in the version's own folder, or where the EFA installer put it."""

    tests: str
    """nccl-tests' version; empty where they are not in it."""

    cuda: str
    """The CUDA release it was built for, e.g. ``13.0``."""

    libfabric: str
    mpi: str
    architectures: list[str]
    """GPU architectures as nvcc names them, e.g. ``sm_90``; empty for whatever the makers chose (a wheel)."""

    machine: str
    """The processors: ``x86_64`` or ``aarch64``."""

    sources: dict[str, dict[str, str]]
    """By part (``nccl``, ``ofi``, ``tests``): ``from`` (URL, folder or file), ``version``, ``sha256`` or ``commit``."""

    installed_s: float
    """When, in seconds since 1970."""

    def format(self) -> bytes:
        """Give the file's text."""
        import json  # not in a prolog

        return json.dumps({"format": FORMAT, **self._asdict()}, indent=1).encode() + b"\n"

    @classmethod
    def parse(cls, data: bytes, path: str) -> Manifest:
        """Read the file's text.

        Raises:
            InvalidManifest: it is none of ours.
        """
        try:
            document: dict[str, Any] = json_text.loads(data)
            if document.pop("format") != FORMAT:
                raise ValueError
            manifest = cls(**document)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            hint = "install that version again: slurm-fsx nccl install --anew"
            raise InvalidManifest(f"{path} is no manifest of this software", hint=hint) from error
        if not is_version_id(manifest.id):
            raise InvalidManifest(f"{path} names the version {manifest.id!r}", hint="install that version again")
        return manifest


def is_version_id(text: str) -> bool:
    """Whether a version may be called this: one word that is safe as a folder's name."""
    return 0 < len(text) <= ID_LIMIT and _ID_CHARACTERS.issuperset(text) and text[0].isalnum()


def version_folder(root: str, version_id: str) -> str:
    """Give where a version stands below the installation's folder, e.g. ``/fsx/nccl``."""
    return f"{root}/{VERSIONS}/{version_id}"
