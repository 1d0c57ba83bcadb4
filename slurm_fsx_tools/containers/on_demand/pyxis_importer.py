"""Pyxis's importer: from what stands behind ``--container-image=`` to the path of an image.

Pyxis runs ``slurm-fsx-importer get docker://…`` as the job's user where a step starts, and takes the first line of
stdout for the path; stderr is shown only if this fails. A name that the catalogue has is answered from there at once,
by a copy on the node's own disk where there is one; anything else is pulled into the user's own cache, once for the
whole cluster. Source: Pyxis, importers/README.md.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from ...config.origin import config_path
from ...config.snapshot import load_snapshot
from ...errors import ImageNotFound, SlurmFsxError
from ...job import Job
from ...shared_fs import SharedFs
from ..store import Store
from .own_cache import OwnCache
from .wanted import Wanted, look_up

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...config.model import Config, Snapshot

USAGE = "usage: slurm-fsx-importer get URI | release"


def main() -> None:
    """Run as Pyxis's importer, and end the process."""
    os.umask(0o077)
    try:
        code = run(sys.argv[1:], os.environ)
    except SlurmFsxError as error:
        say(str(error))
        code = error.exit_code
    except OSError as error:
        say(f"{error.filename or ''}: {error.strerror}".lstrip(": "))
        code = 1
    sys.stdout.flush()
    os._exit(code)  # Python's tear-down takes as long as an answer from the catalogue


def run(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Do what Pyxis asks for; give the exit code.

    Raises:
        SlurmFsxError: there is no image, with the reason.
        OSError: the cache cannot be used.
    """
    if arguments == ["release"]:
        return 0
    if len(arguments) != 2 or arguments[0] != "get":
        say(USAGE)
        return 2
    snapshot = load_snapshot(config_path(environ), on_failure=lambda what, error: say(f"skipped: {what}: {error}"))
    print(get(arguments[1], snapshot, environ))
    return 0


def get(uri: str, snapshot: Snapshot, environ: Mapping[str, str]) -> str:
    """Give the path of the image that a URI, or a name in place of one, means.

    Raises:
        SlurmFsxError: there is none, with the reason.
        OSError: the cache cannot be used.
    """
    config = snapshot.config
    wanted = Wanted.parse(uri, config)
    job_id, partition, nodes = _job(environ)
    shared_fs = SharedFs(config["fsx.root"], config["fsx.timeout"])
    store = Store(config.below_fsx("containers")).cache(os.geteuid())
    architecture = config["containers.architecture"]
    cache = OwnCache(store, os.uname().machine if architecture == "auto" else architecture, nodes=nodes)
    # In a child: where the file system hangs, this ends with a message.
    path, size_bytes, modified_ns, notes = shared_fs.look(lambda: _look(wanted, snapshot, partition, job_id, cache))
    if path:
        return _nearest(path, size_bytes, modified_ns, config)
    for note in notes:
        say(note)
    image = wanted.image
    shared_fs.look(cache.check)
    from .pulling import pull

    return pull(image, cache, config, job_id, say)


def say(text: str) -> None:
    """Tell the user something."""
    printable = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    print(f"slurm-fsx: {printable}", file=sys.stderr, flush=True)


def _look(
    wanted: Wanted, snapshot: Snapshot, partition: str, job_id: str, cache: OwnCache
) -> tuple[str, int, int, list[str]]:
    """Give an image that is there, with its size and time, or an empty path and what the user should know."""
    notes: list[str] = []
    path = look_up(wanted, snapshot.config) or ""
    if not path or not os.access(path, os.R_OK):
        path = _ask(wanted, snapshot, partition, notes)
    if not path:
        try:
            path = cache.find(wanted.image, job_id) or ""
        except (OSError, SlurmFsxError):
            pass  # there is no cache yet, or no registry has such a name: whoever asks next says so
    if not path:
        return "", 0, 0, notes
    status = os.stat(path)
    return path, status.st_size, status.st_mtime_ns, []


def _ask(wanted: Wanted, snapshot: Snapshot, partition: str, notes: list[str]) -> str:
    """Ask the catalogue's folder and, for a short name, the plugins, the site's first."""
    if not wanted.is_short:
        from ..catalogue import Catalogue

        image = Catalogue(snapshot.config.below_fsx("containers")).image(wanted.name)
        return image.path if image else ""
    from ...plugins import load_plugins

    plugins = load_plugins(snapshot, lambda what, error: notes.append(f"skipped: {what}: {error}"))
    try:
        answer: Any = plugins.call_first(
            "slurm_fsx_resolve_container", name=wanted.name, partition=partition, config=snapshot.config
        )
    except ImageNotFound as error:
        notes.append(f"not in the catalogue: {error}")
        return ""
    is_path = isinstance(answer, str) and answer.startswith("/") and answer.isprintable()
    return answer if is_path else ""


def _nearest(path: str, size_bytes: int, modified_ns: int, config: Config) -> str:
    """Give the copy of an image on this node's disk where there is one, else the image itself."""
    folder, file = os.path.split(path)
    if config["containers.stage"] and folder == config.below_fsx("containers"):
        from ..on_node.local_copies import Identity, LocalCopies

        copies = LocalCopies.configured(config)
        return (copies and copies.find(file, Identity(size_bytes, modified_ns))) or path
    return path


def _job(environ: Mapping[str, str]) -> tuple[str, str, int]:
    """Give id, partition and number of nodes of the job that this runs in; empty texts outside of jobs."""
    try:
        job = Job.from_environment(environ)
    except ValueError:
        return "", "", 1
    return job.id, job.partition, job.nodes
