"""What stands in ``/fsx/nccl``, and what this node remembers of it in ``<runtime_dir>/nccl.json``.

An installation is there if its setup script is. What is remembered counts as long as the script and the version file
are the same; so a prolog looks at three files, and sources a script once.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import SlurmFsxError
from ..files import read_trusted, remove, write_atomically
from .survey import survey

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..config.model import Config
    from ..shared_fs import SharedFs

FORMAT = 1

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


def current_installation(config: Config, shared_fs: SharedFs) -> Installation | None:
    """Give what stands in ``FSX/nccl`` now; None where there is no installation.

    At most three file-system calls below ``fsx.root`` where nothing has changed. A setup script that is new here is
    sourced, in half of ``fsx.timeout``.

    Raises:
        SharedFsUnavailable: the shared file system does not answer.
        OSError: the folder cannot be read.
    """
    memory = recall(config)
    known_key = memory.key if memory is not None and memory.counts(time.time()) else ""
    answer = shared_fs.look(lambda: survey(config.below_fsx("nccl"), known_key, config["fsx.timeout"] / 2))
    if answer is None:
        return None
    if memory is not None and answer["key"] == known_key:
        return memory.installation
    installation = Installation(**answer["installation"])
    expires = 0 if answer["is_final"] else time.time() + RETRY_S
    # The same trouble again, after its time: it has been said.
    said = memory.said if memory is not None and memory.key == answer["key"] else []
    _remember(config, Memory(answer["key"], installation, expires, said))
    return installation


def unsaid(notes: Iterable[str], config: Config) -> list[str]:
    """Give the notes that this node has not said since the installation changed, and remember them as said."""
    notes = list(notes)
    memory = recall(config) if notes else None
    if memory is None:
        return notes
    news = [note for note in notes if note not in memory.said]
    if news:
        _remember(config, memory._replace(said=memory.said + news))
    return news


def recall(config: Config) -> Memory | None:
    """Give what this node remembers; None where that is nothing, or nothing that root alone could have written."""
    try:
        document: dict[str, Any] = json.loads(read_trusted(_path(config)))
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
        remove(_path(config))


def _remember(config: Config, memory: Memory) -> None:
    document = {"format": FORMAT, **memory._asdict(), "installation": memory.installation._asdict()}
    try:
        write_atomically(_path(config), json.dumps(document).encode())
    except OSError:
        pass  # an ordinary user's process, or a full /run: the next one looks again


def _path(config: Config) -> str:
    return os.path.join(config["runtime_dir"], "nccl.json")
