"""What stands in ``/fsx/nccl``, and what this node remembers of it in ``<runtime_dir>/nccl.json``.

Two kinds are known. Ours has versions side by side, and a link, ``current``, to the one that jobs get: each gets the
version's own folders, so that a later switch changes nothing for it, and leaves a mark of its use. Any other is there
if its setup script is. What is remembered counts as long as the version's manifest, or the script and the version file,
are the same; so a prolog makes four calls, and sources a script once.
"""

from __future__ import annotations

import os
import time

from .. import json_text
from ..errors import SlurmFsxError
from ..files import read_trusted, remove, write_atomically
from ..values import NamedTuple
from .survey import survey

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ..config.model import Config
    from ..shared_fs import SharedFs

FORMAT = 2

RETRY_S = 600.0
"""How long an answer counts that may have been bad luck: a script that took too long, a folder not there yet."""


class Installation(NamedTuple):
    """An NCCL on the shared file system, as its setup script describes it. Made of what json can carry."""

    folder: str
    is_trusted: bool = True
    """False where somebody else than root could have written it: jobs get nothing of it then."""

    library_folders: list[str] = []  # noqa: RUF012  # never changed; a tuple would come back from json as a list
    version: str = ""
    """What ``.nccl_version`` says; empty where it says nothing of use."""

    variables: dict[str, str] = {}  # noqa: RUF012
    """What the setup script exports, but for search paths."""

    lists: dict[str, list[str]] = {}  # noqa: RUF012
    """The entries that the setup script puts into search paths, but for the library folders."""

    tuner: str = ""
    """The library that brings AWS's tuner; empty where none was seen."""

    notes: list[str] = []  # noqa: RUF012
    """What an admin should read about it."""

    id: str = ""
    """The version's id; empty where the installation is not ours."""

    nccl: str = ""
    """What the manifest says of the software; empty where there is none."""

    ofi: str = ""
    libfabric: str = ""


class Memory(NamedTuple):
    """What a node remembers of the last look."""

    key: str
    installation: Installation
    expires: float
    """When to look again although the key is the same, in seconds of the epoch; 0 for never."""

    said: list[str]
    """The notes that stand in the log already."""

    def counts(self, now: float) -> bool:
        """Whether the answer can be used again; one from the future is a clock that was set back."""
        return self.expires == 0 or 0 < self.expires - now <= RETRY_S


def current_installation(
    config: Config, shared_fs: SharedFs, version: str = "", marker: str = ""
) -> Installation | None:
    """Give what stands in ``FSX/nccl`` now; None where there is no installation, or not the version that is asked for.

    At most four file-system calls below ``fsx.root`` where nothing has changed. A setup script that is new here is
    sourced, in half of ``fsx.timeout``.

    Args:
        config: Where to look.
        shared_fs: Looks there.
        version: The id of the version to give; the current one without it.
        marker: What marks the version as used, by a job (`Job.marker`); nothing without it.

    Raises:
        SharedFsUnavailable: the shared file system does not answer.
        OSError: the folder cannot be read.
    """
    memory = recall(config, version)
    known_key = memory.key if memory is not None and memory.counts(time.time()) else ""
    folder, limit_s = config.below_fsx("nccl"), config["fsx.timeout"] / 2
    answer = shared_fs.look(lambda: survey(folder, known_key, limit_s, version, marker))
    if answer is None:
        return None
    passing = [answer["note"]] if answer.get("note") else []
    if memory is not None and answer["key"] == known_key:
        return memory.installation._replace(notes=memory.installation.notes + passing)
    installation = Installation(**answer["installation"])
    expires = 0 if answer["is_final"] else time.time() + RETRY_S
    # The same trouble again, after its time: it has been said.
    said = memory.said if memory is not None and memory.key == answer["key"] else []
    _remember(config, Memory(answer["key"], installation, expires, said), version)
    return installation._replace(notes=installation.notes + passing)


def unsaid(notes: Iterable[str], config: Config, version: str = "") -> list[str]:
    """Give the notes that this node has not said since the installation changed, and remember them as said."""
    notes = list(notes)
    memory = recall(config, version) if notes else None
    if memory is None:
        return notes
    news = [note for note in notes if note not in memory.said]
    if news:
        _remember(config, memory._replace(said=memory.said + news), version)
    return news


def recall(config: Config, version: str = "") -> Memory | None:
    """Give what this node remembers; None where that is nothing, or nothing that root alone could have written."""
    try:
        document: dict[str, Any] = json_text.loads(read_trusted(_path(config, version)))
        if document.pop("format") != FORMAT:
            return None
        return Memory(**{**document, "installation": Installation(**document["installation"])})
    except (OSError, SlurmFsxError, ValueError, KeyError, TypeError, AttributeError):
        return None


def forget_doubtful(config: Config) -> None:
    """Forget an answer that may have been bad luck, so that the next look is a whole one.

    Raises:
        OSError: it cannot be removed.
    """
    memory = recall(config)
    if memory is not None and memory.expires:
        remove(_path(config, ""))


def _remember(config: Config, memory: Memory, version: str) -> None:
    document = {"format": FORMAT, **memory._asdict(), "installation": memory.installation._asdict()}
    try:
        write_atomically(_path(config, version), json_text.dumps(document))
    except OSError:
        pass  # an ordinary user's process, or a full /run: the next one looks again


def _path(config: Config, version: str) -> str:
    # A job that asks for a version must not make the node forget what it knows of the current one.
    return os.path.join(config["runtime_dir"], f"nccl-{version}.json" if version else "nccl.json")
