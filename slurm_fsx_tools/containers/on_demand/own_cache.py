"""A user's own cache: images that the user's jobs imported, each pulled once for the whole cluster.

An image's file is named by its digest. A reference says which digest a name meant, and when a registry said so; while
it is fresh, nobody asks a registry or waits for a lock. The first node that finds it stale asks, and pulls if it must;
all others look at the reference until it is fresh, and one of them takes over where the puller died.
"""

from __future__ import annotations

import json
import os
import stat
import time
from typing import TYPE_CHECKING, NamedTuple

from ...errors import LockLost, SlurmFsxError, UntrustedFile
from ...files import check_owner, read_trusted, write_atomically
from ...shared_lock import Candidate, jittered
from ..squashfs import SUPERBLOCK_BYTES, why_unusable

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...shared_lock import Owner
    from ..names import ImageName
    from ..store import Store

VERSION = 1
FRESH_S = 300.0
"""How long a tag is taken to mean what it meant; the nodes of one job take it to mean the same as long as they run."""

POLL_S = 0.4
TRY_S = 2.0
"""How often a waiter looks at the reference, and tries the lock, in a job of up to `CROWD` nodes."""

CROWD = 100
"""From so many nodes on, each looks and tries the less often: all of them together no more often than this many."""

TELL_S = 30.0
"""How often a waiter says that it still waits."""

_PRIVATE = 0o700


class Reference(NamedTuple):
    """What a name meant when a registry was asked, or why it could not be found out."""

    name: str
    file: str
    """The image's file in the cache; empty where it could never be pulled."""

    size_bytes: int
    modified_ns: int
    job_id: str
    """The job whose node asked, and got an answer."""

    token: str
    """Differs from one asking to the next."""

    error: str
    """Why the last asking failed; empty where it did not."""

    hint: str


class OwnCache:
    """The cache of the user of this process.

    Args:
        store: Where it is, e.g. ``Store("/fsx/containers").cache(os.geteuid())``.
        architecture: Of the images; nodes of another kind have others.
        clock: Seconds since 1970, as the times of files have them.
        nodes: How many ask at the same time, at most.
        sleep: Waits for some seconds.
    """

    def __init__(
        self,
        store: Store,
        architecture: str,
        clock: Callable[[], float] = time.time,
        nodes: int = 1,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.store = store
        self.architecture = architecture
        self._clock = clock
        self._pace = max(1.0, nodes / CROWD)
        self._sleep = sleep

    def check(self) -> None:
        """See that the folder is this user's, and closed to everybody else; make what belongs in it.

        Raises:
            SlurmFsxError: it is missing: root makes it when a step starts.
            UntrustedFile: it is somebody else's, or others could enter it.
            OSError: it cannot be looked at.
        """
        folder = self.store.folder
        parent = os.path.dirname(folder)
        try:
            check_owner(parent, os.stat(parent))
            _check_private(folder)
        except FileNotFoundError:
            raise SlurmFsxError(
                f"there is no folder {folder} for your own images",
                hint=f"it is made when a step starts; by hand, root runs: install -d -m 711 {parent} && "
                f"install -d -m 700 -o {os.geteuid()} {folder}",
            ) from None
        for path in (self.store.state, self.store.locks, self.store.references):
            try:
                os.mkdir(path, _PRIVATE)
            except FileExistsError:
                pass
            status = os.stat(path, follow_symlinks=False)
            check_owner(path, status)
            if not stat.S_ISDIR(status.st_mode):
                raise UntrustedFile(f"{path} is no folder", hint="remove it")

    def find(self, name: ImageName, job_id: str) -> str | None:
        """Give the path of the image that a name means, where that is known without asking anybody.

        Args:
            name: The image, with its registry.
            job_id: What one job was told counts for it until its end; empty outside jobs.

        Raises:
            OSError: the cache cannot be read.
        """
        reference, age_s = self._read(name)
        if reference is None or reference.error:
            return None
        is_fresh = abs(age_s) < FRESH_S or bool(job_id and job_id == reference.job_id) or bool(name.digest)
        return self._use(reference) if is_fresh else None

    def last_known(self, name: ImageName) -> str:
        """Give the file that a name meant when a registry was last asked; empty where that is not here."""
        reference, _ = self._read(name)
        return reference.file if reference is not None and self._use(reference) is not None else ""

    def fetch(
        self,
        name: ImageName,
        job_id: str,
        pull: Callable[[], str],
        say: Callable[[str], None],
        progress: Callable[[Owner], str],
    ) -> str:
        """Give the path of the image that a name means now, pulled by one node of all that ask.

        Args:
            name: The image, with its registry.
            job_id: As for `find`.
            pull: Asks the registry, brings the image into the cache, and gives its file's name; called under a lock.
            say: Told whom this process waits for.
            progress: Says how far the one that is waited for has come; empty where it is not known.

        Raises:
            SlurmFsxError: as `pull` raised it, here or on the node that was waited for.
            OSError: the cache cannot be written to.
        """
        before, _ = self._read(name)
        told: Owner | None = None
        next_try_s = next_word_s = 0.0
        with Candidate(f"{self.store.locks}/reference-{self._key(name)}") as candidate:
            while True:
                now_s = time.monotonic()
                if now_s >= next_try_s:
                    next_try_s = now_s + jittered(TRY_S * self._pace)
                    lock = candidate.try_hold()
                    if lock is not None:
                        try:
                            with lock:
                                # Once more: the last owner may have ended after we looked.
                                return self._answer(name, job_id, before) or self._renew(name, job_id, pull, lock.check)
                        except LockLost as error:
                            say(f"{error.message}: waiting for that one")
                            next_try_s = 0.0
                    owner = candidate.owner
                    if owner is not None and (owner != told or now_s >= next_word_s):
                        told, next_word_s = owner, now_s + TELL_S
                        since = time.strftime("%H:%M:%S", time.localtime(owner.since_s))
                        so_far = progress(owner)
                        say(
                            f"waiting for {name}: process {owner.pid} on {owner.host} pulls it since {since}"
                            + (f" ({so_far})" if so_far else "")
                        )
                self._sleep(jittered(POLL_S * self._pace))
                path = self._answer(name, job_id, before)
                if path is not None:
                    return path

    def _answer(self, name: ImageName, job_id: str, before: Reference | None) -> str | None:
        """Give what another node has found since, which may be that there is no such image."""
        path = self.find(name, job_id)
        if path is not None:
            return path
        after, _ = self._read(name)
        if after is not None and after.error and (before is None or after.token != before.token):
            raise SlurmFsxError(after.error, hint=after.hint)
        return None

    def _renew(self, name: ImageName, job_id: str, pull: Callable[[], str], check: Callable[[], None]) -> str:
        try:
            file = pull()
            path = self.store.path(file)
            status = _status_of_image(path)
        except LockLost:
            raise  # another one pulls: its answer counts
        except SlurmFsxError as error:
            known = self._read(name)[0] or Reference(str(name), "", 0, 0, "", "", "", "")
            self._write(name, known._replace(token=os.urandom(8).hex(), error=error.message, hint=error.hint))
            raise
        check()
        reference = Reference(str(name), file, status.st_size, status.st_mtime_ns, job_id, os.urandom(8).hex(), "", "")
        self._write(name, reference)
        _mark_used(path)
        return path

    def _use(self, reference: Reference) -> str | None:
        """Give the image's path, marked as used now; None where there is none, or it is no longer the same."""
        if not reference.file:
            return None
        path = self.store.path(reference.file)
        try:
            status = _status_of_image(path)
        except (OSError, SlurmFsxError):
            return None
        if (status.st_size, status.st_mtime_ns) != (reference.size_bytes, reference.modified_ns):
            return None
        _mark_used(path)
        return path

    def _read(self, name: ImageName) -> tuple[Reference | None, float]:
        """Give a name's reference with its age in seconds; None where there is none that this version understands."""
        path = self._path(name)
        try:
            document = json.loads(read_trusted(path))
            age_s = self._clock() - os.stat(path).st_mtime
            if document.pop("version") != VERSION:
                return None, 0.0
            reference = Reference(**document)
            if not isinstance(reference.file, str) or "/" in reference.file or reference.file.startswith("."):
                return None, 0.0
            return reference, age_s
        except (FileNotFoundError, UntrustedFile, ValueError, KeyError, TypeError, AttributeError):
            return None, 0.0

    def _write(self, name: ImageName, reference: Reference) -> None:
        text = json.dumps({"version": VERSION, **reference._asdict()})
        write_atomically(self._path(name), text.encode(), 0o600)

    def _path(self, name: ImageName) -> str:
        return f"{self.store.references}/{self._key(name)}.json"

    def _key(self, name: ImageName) -> str:
        """Give a name that fits into a file's name, however long the image's is."""
        import hashlib  # takes long to import, and an answer from the catalogue does not need it

        return hashlib.sha256(f"{self.architecture} {name}".encode()).hexdigest()


def _check_private(path: str) -> None:
    status = os.stat(path, follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode):
        raise UntrustedFile(f"{path} is no folder", hint="remove it")
    if status.st_uid != os.geteuid():
        raise UntrustedFile(f"{path} belongs to user {status.st_uid}", hint=f"run: chown {os.geteuid()} {path}")
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UntrustedFile(f"{path} can be entered by others, who would see private images", f"run: chmod 700 {path}")


def _status_of_image(path: str) -> os.stat_result:
    """Give the status of an image that is this user's own file, and whole.

    Raises:
        OSError: it is missing.
        UntrustedFile, SlurmFsxError: it is no image of this user's.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise UntrustedFile(f"{path} is no regular file", hint="remove it")
        check_owner(path, status)
        reason = why_unusable(os.pread(fd, SUPERBLOCK_BYTES, 0), status.st_size)
        if reason:
            raise SlurmFsxError(f"{path}: {reason}", hint="remove it")
        return status
    finally:
        os.close(fd)


def _mark_used(path: str) -> None:
    """Set an image's time of use, which pruning goes by, and leave the time of its content."""
    try:
        os.utime(path, ns=(time.time_ns(), os.stat(path, follow_symlinks=False).st_mtime_ns), follow_symlinks=False)
    except OSError:
        pass  # it is used all the same
