"""An install from beginning to end: one at a time, and seen by others only when it is whole."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from ...errors import LockTimeout
from ...files import move
from ...folders import make_folder, remove_tree
from ...shared_lock import POLL_S, Candidate, hold, jittered
from ..manifest import STAGING, USES, Manifest, version_folder
from ..versions import changing, make_folders
from .building import Build
from .preflight import LOCK
from .request import choose_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ...programs import Programs
    from ...shared_lock import Owner, SharedLock
    from .building import Reporter
    from .request import Request

BUILD_STALL_S = 3600.0
"""How long a compiler may neither read nor write: linking GPU code takes many minutes of computing alone."""

_KEPT_VARIABLES = (
    *("HOME", "SUDO_UID", "SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "TMPDIR"),
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
)
_KEPT_PREFIX = "PIP_"
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Installed(NamedTuple):
    """A version that is there now."""

    manifest: Manifest
    is_new: bool


def build_environment(environ: Mapping[str, str], cuda_home: str, mpi_home: str) -> dict[str, str]:
    """Give the environment that programs of a build get: nothing by chance from the caller's, like CFLAGS."""
    kept = {name: environ[name] for name in _KEPT_VARIABLES if name in environ}
    kept.update({name: value for name, value in environ.items() if name.startswith(_KEPT_PREFIX)})
    folders = [f"{home}/bin" for home in (cuda_home, mpi_home) if home]
    return {
        **kept,
        "PATH": ":".join([*folders, environ.get("PATH", _SYSTEM_PATH)]),
        "LC_ALL": "C.UTF-8",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "https:http:ssh:git:file",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
    }


def install(
    request: Request,
    programs: Programs,
    reporter: Reporter,
    *,
    anew: bool = False,
    wait: bool = True,
    on_wait: Callable[[Owner], None] | None = None,
) -> Installed:
    """Build a version and give it its place; what is current stays so.

    Args:
        request: What to install.
        programs: How programs are run.
        reporter: Told how far it is.
        anew: Build it even if it is there; it gets a name of its own.
        wait: Whether to wait for another install.
        on_wait: Told who that is.

    Raises:
        LockTimeout: another one is under way, and is not waited for.
        StepFailed, NoSpace, Interrupted: it did not come to an end; the next one goes on there.
        LockLost: another one took over.
        UntrustedFile, OSError: the folders are not as they should be.
    """
    make_folders(request.root)
    with _take_turn(request.root, programs, wait, on_wait) as lock:
        # Now, not before: who was waited for may have installed just this.
        version_id, known = choose_id(request, anew)
        if known is not None:
            return Installed(known, False)
        build = Build(request, version_id, programs, reporter)
        manifest = build.run()
        lock.check()
        with changing(request.root):
            make_folder(f"{request.root}/{USES}/{version_id}", 0o755)
            move(build.result, version_folder(request.root, version_id))
        build.discard()
        return Installed(manifest, True)


def discard_unfinished(root: str, version_id: str) -> bool:
    """Remove what an install has left unfinished; say whether there was something.

    Raises:
        LockTimeout: an install is under way.
        OSError, UntrustedFile: it cannot be removed.
    """
    if version_id not in unfinished(root):
        return False
    with hold(f"{root}/{STAGING}/{LOCK}", timeout_s=0):
        remove_tree(f"{root}/{STAGING}/{version_id}")
    return True


def unfinished(root: str) -> list[str]:
    """Give the ids of builds that were begun and have not ended."""
    try:
        entries = os.listdir(f"{root}/{STAGING}")
    except OSError:
        return []
    return sorted(entry for entry in entries if os.path.isfile(f"{root}/{STAGING}/{entry}/request.json"))


def _take_turn(root: str, programs: Programs, wait: bool, on_wait: Callable[[Owner], None] | None) -> SharedLock:
    """Wait for the lock, as long as no signal comes."""
    told: Owner | None = None
    with Candidate(f"{root}/{STAGING}/{LOCK}") as candidate:
        while True:
            lock = candidate.try_hold()
            if lock is not None:
                return lock
            owner = candidate.owner
            if not wait:
                by = f"process {owner.pid} on {owner.host}" if owner else "another process"
                raise LockTimeout(f"{by} is installing in {root}", hint="try again later, or without --no-wait")
            if owner is not None and owner != told:
                told = owner
                if on_wait is not None:
                    on_wait(owner)
            programs.stop.sleep(jittered(POLL_S))
