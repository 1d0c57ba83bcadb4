"""Brings one image from its registry into a store: whole or not at all, and once for all who want it."""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from ...errors import Interrupted, NoSpace, RegistryBusy, RegistryUnavailable, RegistryUntrustworthy
from ...folders import free_bytes, remove_tree
from ...programs import ProgramFailed, Programs, find_program
from ...shared_lock import Candidate, jittered
from ..records import Record
from ..squashfs import SUPERBLOCK_BYTES, why_unusable
from . import skopeo as skopeo_importer
from .budget import RegistryBudget
from .credentials import credentials_path, find_credentials
from .enroot import Unfit
from .folders import make_folders, make_lock_folder, scratch_folder
from .importers import choose_importer
from .layers import forget_old_layers, missing_bytes
from .options import Imported, ImportOptions, Plan
from .publication import clear_staging, look_at, publish_image
from .registry import RegistryClient
from .state import CHECKING, DONE, FAILED, KEPT, UNCHANGED, VERIFYING, WAITING, Progress, StateFile
from .work import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ...programs import StopSign
    from ...shared_lock import SharedLock
    from ..names import ImageName
    from ..store import Store
    from .manifests import Manifest
    from .publication import Here

UNPACKED_RATIO = 3
"""How many bytes a layer's byte is unpacked, roughly: 2.2 to 2.8 in NGC's images."""

SPARE_BYTES = 64 << 20
_POLL_S = 0.5
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")


def import_image(
    name: ImageName, store: Store, options: ImportOptions, report: Callable[[Progress], None], file: str = ""
) -> Imported:
    """Have an image in the store: the one that its registry gives for its name now.

    One process of the cluster does it; others that want the same image wait for it. A process that was killed leaves
    nothing that hinders the next one, and its layers are used. Nothing is downloaded where the digest is unchanged. A
    file that was not imported, or was changed since, is left as it is, unless `force` is set.

    Args:
        name: The image.
        store: The catalogue, or a user's cache; its folder is there, and ours.
        options: How.
        report: Told how far it is; several times a second, from the calling thread.
        file: What the image's file is called; its name's own without it.

    Raises:
        RegistryError: the registry does not give it.
        ImportFailed: it was not made; NoSpace where there is too little room.
        ConfigError, UntrustedFile: credentials, programs or folders are not as they must be.
        LockLost: this process was asleep for so long that another one took over.
        Interrupted: the stop sign was set.
    """
    file = file or name.file_name
    make_folders(store)
    make_lock_folder(store, file)
    with _hold(store, file, options.stop, report) as lock:
        clear_staging(store, file)
        state = StateFile(store, file, name.uri, report, options.clock)
        try:
            imported = _Import(name, store, file, options, state, lock).run()
        except Interrupted:
            state.tell(Progress(file, FAILED, text="interrupted: the same command goes on"))
            raise
        except Exception as error:
            state.tell(Progress(file, FAILED, text=getattr(error, "message", None) or str(error)))
            raise
        phase = DONE if imported.is_new else KEPT if imported.note else UNCHANGED
        state.tell(Progress(file, phase, imported.size_bytes, imported.size_bytes, imported.note))
        return imported


def plan_import(name: ImageName, store: Store, options: ImportOptions, file: str = "") -> Plan:
    """Say what `import_image` would do, changing nothing.

    Raises:
        RegistryError, ConfigError, UntrustedFile: as for `import_image`.
    """
    file = file or name.file_name
    here = look_at(store, file)
    if here.kept and not options.force:
        return Plan(file, "", 0, KEPT, here.kept)
    client = registry_client(name, options)
    digest = client.digest(name)
    if here.is_of(digest, options.wanted_architecture) and not options.force:
        return Plan(file, digest, 0, UNCHANGED, "")
    manifest = client.manifest(name, digest, options.wanted_architecture)
    return Plan(file, digest, missing_bytes(store, manifest), "replace" if here.status else "import", here.broken)


def registry_client(name: ImageName, options: ImportOptions) -> RegistryClient:
    """Give who asks an image's registry, with the credentials for it.

    Raises:
        ConfigError, UntrustedFile: the credentials cannot be used.
    """
    path = options.credentials_file or credentials_path(os.environ)
    credentials = find_credentials(name.registry, path, os.environ)
    return RegistryClient(name.registry, credentials, insecure_http=options.insecure_http, clock=options.clock)


class _Import:
    """One import, under the image's lock."""

    def __init__(
        self,
        name: ImageName,
        store: Store,
        file: str,
        options: ImportOptions,
        state: StateFile,
        lock: SharedLock,
    ) -> None:
        self._name = name
        self._store = store
        self._file = file
        self._options = options
        self._state = state
        self._lock = lock
        # A name of our own: should we sleep so long that another process takes over, neither works on the other's.
        self._folder = f"{store.staging}/{file}.{os.urandom(4).hex()}"
        self._staged = f"{self._folder}/image"
        self._local_is_full = False
        self._importer = options.importer
        self._budget = RegistryBudget(
            store, name.registry, options.registry_slots, options.stop, options.other_stores, options.clock
        )

    def run(self) -> Imported:
        here = look_at(self._store, self._file)
        if here.kept and not self._options.force:
            size_bytes = here.status.st_size if here.status else 0
            return Imported(self._store.path(self._file), "", "", size_bytes, False, here.kept)
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._try(here)
            except NoSpace as error:
                if self._local_is_full or not self._options.scratch:
                    raise
                # The estimate of what layers unpack to was too low for the local disk.
                self._local_is_full = True
                self._say(WAITING, f"{error.message}: unpacking on the shared file system instead")
            except (RegistryUnavailable, RegistryUntrustworthy, ProgramFailed) as error:
                if isinstance(error, Unfit):
                    if self._importer == "auto" and not skopeo_importer.missing():
                        self._importer = skopeo_importer.NAME
                        self._say(WAITING, f"{error.message}: taking skopeo and umoci instead")
                        continue
                    if error.is_final:
                        raise
                wait_s = self._options.retries.wait_s(attempt)
                told_s = error.retry_after_s if isinstance(error, RegistryUnavailable) else None
                if told_s is not None or isinstance(error, RegistryBusy):
                    # All importers of the cluster ask the same registry: all of them leave it alone.
                    wait_s = max(told_s or 0.0, wait_s if told_s is None else 0.0)
                    self._budget.pause(wait_s)
                    wait_s += jittered(1.0)
                if attempt >= self._options.retries.attempts:
                    raise
                self._say(WAITING, f"{error.message}: trying again in {wait_s:.0f} s")
                self._options.stop.sleep(wait_s)
            finally:
                remove_tree(self._folder)

    def _try(self, here: Here) -> Imported:
        self._budget.wait_for_pause(self._say_waiting)
        self._say(CHECKING, "")
        client = registry_client(self._name, self._options)
        digest = client.digest(self._name)
        architecture = self._options.wanted_architecture
        if not self._options.force and here.is_of(digest, architecture):
            record = here.record
            assert record is not None
            return Imported(self._store.path(self._file), digest, record.sha256, record.size_bytes, False)
        importer = choose_importer(self._importer)
        manifest = client.manifest(self._name, digest, architecture)
        os.mkdir(self._folder, 0o700)
        with ExitStack() as stack:
            scratch = self._choose_scratch(manifest, stack)
            programs = Programs(_environment(scratch), self._options.stop, self._options.stall_s)
            work = Work(
                self._name,
                manifest,
                architecture,
                find_credentials(
                    self._name.registry, self._options.credentials_file or credentials_path(os.environ), os.environ
                ),
                self._options.insecure_http,
                self._staged,
                f"{self._folder}/layout",
                self._store.layers,
                scratch,
                self._options.processors,
                programs,
                self._tell,
                lambda text: self._state.tell(Progress(self._file, self._phase, *self._bytes, text)),
            )
            try:
                with self._budget.slot(self._say_waiting):
                    importer.fetch(work)
                importer.build(work)
            except NoSpace:
                raise
            except ProgramFailed:
                importer.drop_damaged(work)
                raise
            self._say(VERIFYING, "")
            record = self._verify(digest, architecture, importer.NAME, programs, scratch)
        self._lock.check()
        publish_image(self._store, self._file, self._staged, record)
        forget_old_layers(self._store, self._options.clock())
        return Imported(self._store.path(self._file), digest, record.sha256, record.size_bytes, True)

    def _choose_scratch(self, manifest: Manifest, stack: ExitStack) -> str:
        """See that there is room, and give a folder to unpack in: on local disk, else in the staging folder.

        Raises:
            NoSpace: there is none.
        """
        unpacked = manifest.size_bytes * UNPACKED_RATIO + SPARE_BYTES
        kept = missing_bytes(self._store, manifest) + manifest.size_bytes + SPARE_BYTES
        free = free_bytes(self._store.staging)
        local = self._options.scratch
        if local and not self._local_is_full and os.path.isdir(local) and free_bytes(local) >= unpacked:
            self._need(self._store.folder, kept, free)
            return stack.enter_context(scratch_folder(local))
        self._need(self._store.folder, kept + unpacked, free)
        path = f"{self._folder}/scratch"
        os.mkdir(path, 0o700)
        return path

    def _need(self, folder: str, needed: int, free: int) -> None:
        if free < needed:
            raise NoSpace(
                f"{self._name} needs about {needed} bytes in {folder}, and {free} are free",
                hint=f"make room there, or unpack elsewhere: {self._options.scratch} has not enough either"
                if needed > free and self._local_is_full
                else "make room there: slurm-fsx containers prune",
            )

    def _verify(self, digest: str, architecture: str, importer: str, programs: Programs, scratch: str) -> Record:
        """See that the staged file is an image whose every file can be found, and give its record."""
        programs.run([find_program("unsquashfs") or "unsquashfs", "-l", self._staged], cwd=scratch)
        fd = os.open(self._staged, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            os.fchmod(fd, self._options.mode)
            status = os.fstat(fd)
            reason = why_unusable(file.read(SUPERBLOCK_BYTES), status.st_size)
            if reason:
                raise ProgramFailed(f"the file that {importer} made of {self._name} is {reason}", hint="run it again")
            file.seek(0)
            checksum, done = hashlib.sha256(), 0
            for chunk in iter(lambda: file.read(4 << 20), b""):
                checksum.update(chunk)
                done += len(chunk)
                self._tell(VERIFYING, done, status.st_size)
                self._options.stop.check()
            status = os.fstat(fd)
        return Record(
            self._name.uri,
            digest,
            architecture,
            checksum.hexdigest(),
            status.st_size,
            status.st_mtime_ns,
            self._options.clock(),
            importer,
        )

    _phase = CHECKING
    _bytes = (0, 0)

    def _tell(self, phase: str, done_bytes: int, total_bytes: int) -> None:
        self._phase, self._bytes = phase, (done_bytes, total_bytes)
        self._state.tell(Progress(self._file, phase, done_bytes, total_bytes))

    def _say(self, phase: str, text: str) -> None:
        self._phase, self._bytes = phase, (0, 0)
        self._state.tell(Progress(self._file, phase, text=text))

    def _say_waiting(self, text: str) -> None:
        self._say(WAITING, text)


@contextmanager
def _hold(store: Store, file: str, stop: StopSign, report: Callable[[Progress], None]) -> Iterator[SharedLock]:
    """Hold an image's lock, and tell whom we wait for."""
    told = None
    with Candidate(store.lock(file)) as candidate:
        while True:
            lock = candidate.try_hold()
            if lock is not None:
                break
            if candidate.owner != told and candidate.owner is not None:
                told = candidate.owner
                text = f"process {told.pid} on {told.host} is at it: waiting"
                report(Progress(file, WAITING, text=text))
            stop.sleep(jittered(_POLL_S))
    with lock:
        yield lock


def _environment(scratch: str) -> dict[str, str]:
    """Give what programs see of our environment: no password is in there, and no setting of a user's."""
    passed = {
        name: value
        for name, value in os.environ.items()
        if name.lower() in _PROXIES or name in ("SSL_CERT_FILE", "SSL_CERT_DIR")
    }
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "HOME": scratch, "TMPDIR": scratch, "LC_ALL": "C.UTF-8", "SHELL": "/bin/bash", **passed}
