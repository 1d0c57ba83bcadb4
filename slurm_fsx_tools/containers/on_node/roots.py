"""Named containers' roots on this node, as the SPANK plugin prepares them; ``spank/root.h`` says how they lie there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import TYPE_CHECKING, NamedTuple

from ...errors import SlurmFsxError
from ...files import move, read_trusted
from .mounts import FileSystem, end_process, is_process, remove_folder, unmount, unmount_own
from .trash import empty_trash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ...config.model import Config

HEADER = "# slurm-fsx root 1"
LOCK_TIMEOUT_S = 5.0
LOOK_TIMEOUT_S = 5.0
DAY_S = 86400.0


class Record(NamedTuple):
    """What a root was made from; ``spank/root.c`` writes it."""

    uid: int
    gid: int
    keeps_writes: bool
    """container_scope=global: what was written is there for the next job."""

    target: str
    """Where Pyxis looks for the container."""

    image: str
    identity: str
    server: int
    """Process id of squashfuse; 0 for none."""

    server_start: int
    """Its start in clock ticks since boot."""

    @classmethod
    def parse(cls, text: str) -> Record:
        """Read a ``state`` file.

        Raises:
            SlurmFsxError: it is none of this version.
        """
        header, *lines = text.splitlines() or [""]
        values = dict(line.split("=", 1) for line in lines if "=" in line)
        try:
            if header != HEADER:
                raise ValueError(header)
            return cls(
                uid=int(values["uid"]),
                gid=int(values["gid"]),
                keeps_writes=values["scope"] == "global",
                target=values["target"],
                image=values["image"],
                identity=values["identity"],
                server=int(values["server"]),
                server_start=int(values["server_start"]),
            )
        except (KeyError, ValueError) as error:
            raise SlurmFsxError(
                f"a container's state does not read: {error}", hint="it is removed when no job uses it"
            ) from None


class Root(NamedTuple):
    """The folder of one root."""

    state_dir: str
    id: str

    @property
    def folder(self) -> str:
        return f"{self.state_dir}/roots/{self.id}"

    @property
    def container(self) -> str:
        """The container as enroot knows it, and whose it is, for messages."""
        uid, _, name = self.id.partition(".")
        return f"{name} of user {uid}"

    @property
    def jobs(self) -> list[str]:
        """The ids of the jobs that use it, as far as was written down."""
        try:
            return [name for name in os.listdir(f"{self.folder}/jobs") if name.isdigit()]
        except FileNotFoundError:
            return []

    def record(self) -> Record | None:
        """Give what was written down; None where that is missing or does not read."""
        try:
            return Record.parse(read_trusted(f"{self.folder}/state").decode(errors="surrogateescape"))
        except (OSError, SlurmFsxError):
            return None

    def last_use_s(self) -> float:
        """When a job came or went last, in seconds since 1970."""
        try:
            return os.stat(f"{self.folder}/jobs").st_mtime
        except FileNotFoundError:
            return 0.0

    @contextlib.contextmanager
    def lock(self, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
        """Hold the lock that the SPANK plugin takes, too.

        Raises:
            SlurmFsxError: somebody else has held it all the time.
        """
        path = f"{self.state_dir}/locks/{self.id}"
        deadline = time.monotonic() + timeout_s
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                if _is_locked(fd, path):
                    break
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)
            if time.monotonic() > deadline:
                raise SlurmFsxError(f"{self.container} is being prepared all the while", hint="try again later")
            time.sleep(0.01)
        try:
            yield
            if not os.path.exists(self.folder):
                os.unlink(path)
        finally:
            os.close(fd)


def _is_locked(fd: int, path: str) -> bool:
    """Take the lock; False where another has it, or where its holder has removed the file in the meantime."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except (BlockingIOError, FileNotFoundError):
        return False


def running_jobs(runtime_dir: str, proc: str = "/proc") -> set[str]:
    """Give the ids of the jobs on this node, by what it knows itself: what a prolog wrote, and steps that run."""
    jobs = set()
    with contextlib.suppress(FileNotFoundError):
        jobs = {name[: -len(".env")] for name in os.listdir(f"{runtime_dir}/jobs") if name.endswith(".env")}
    for pid in os.listdir(proc):
        if not pid.isdigit():
            continue
        try:
            with open(f"{proc}/{pid}/cmdline", "rb") as file:
                # Anybody can call a process like that, and keep what is a dead job's for ever.
                is_roots = os.stat(f"{proc}/{pid}").st_uid == 0
                title = file.read(64)
        except OSError:
            continue  # it has ended
        # slurmstepd calls itself `slurmstepd: [JOB.STEP]`.
        if is_roots and title.startswith(b"slurmstepd: ["):
            jobs.add(title[len(b"slurmstepd: [") :].partition(b".")[0].decode(errors="replace"))
    return jobs


class CleanUp:
    """Removes what containers left on this node and no running job uses.

    Safe while jobs start and end, since every root is looked at under its lock, and safe to run again.

    Args:
        config: The node's configuration.
        report: Told each thing that is removed, or would be.
        dry_run: Whether nothing is removed.
        now_s: The time, in seconds since 1970.
    """

    def __init__(self, config: Config, report: Callable[[str], None], dry_run: bool, now_s: float) -> None:
        self._state_dir: str = config["containers.state_dir"]
        self._runtime_dir: str = config["runtime_dir"]
        self._keep_s: float = config["containers.keep_writes"] * DAY_S
        self._limit_bytes: int = config["containers.writes_limit"]
        self._report = report
        self._dry_run = dry_run
        self._now_s = now_s
        self.failures: list[str] = []
        """What could not be removed, and why."""

    def run(self) -> None:
        """Do it all; what fails is in `failures`, and the rest is done."""
        try:
            ids = sorted(os.listdir(f"{self._state_dir}/roots"))
        except FileNotFoundError:
            ids = []
        unused: dict[str, float] = {}
        for root_id in ids:
            root = Root(self._state_dir, root_id)
            with self._failing(root.container), root.lock():
                if self._clean(root):
                    unused[root_id] = root.last_use_s()
        self._limit(unused)
        self._unmount_steps()
        self._remove_locks()
        self._empty_trash()

    @contextlib.contextmanager
    def _failing(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, SlurmFsxError) as error:
            self.failures.append(f"{what}: {error}")

    def _act(self, text: str) -> bool:
        """Report something; say whether to do it."""
        self._report(text)
        return not self._dry_run

    def _clean(self, root: Root) -> bool:
        """Clean one root under its lock; say whether it stays with writes of a container that no job uses."""
        jobs = root.jobs
        # Asked under the lock: a job that is about to use the root has a step that waits for it.
        running = running_jobs(self._runtime_dir)
        if running & set(jobs):
            return False
        record = root.record()
        overlays = FileSystem.overlays(root.folder)
        if overlays or FileSystem.at(f"{root.folder}/image"):
            if self._act(f"mounts of {root.container}"):
                _take_down(root, record, overlays)
        elif record and is_process(record.server, record.server_start) and self._act(f"process {record.server}"):
            end_process(record.server, record.server_start)
        if record and not overlays and not self._dry_run:
            remove_folder(record.target, record.uid, record.gid, LOOK_TIMEOUT_S)
        if not self._dry_run:
            for job in jobs:
                os.unlink(f"{root.folder}/jobs/{job}")
                # Its date stands for the last use.
                os.utime(f"{root.folder}/jobs", (self._now_s, self._now_s))
        if record is None or not record.keeps_writes:
            self._discard(root, f"{root.container}, whose job has ended")
            return False
        if root.last_use_s() < self._now_s - self._keep_s:
            self._discard(root, f"writes of {root.container}, unused for {self._keep_s / DAY_S:g} days")
            return False
        return True

    def _discard(self, root: Root, text: str) -> None:
        if self._act(text):
            move(root.folder, f"{self._state_dir}/trash/{root.id}.{time.time_ns()}")

    def _limit(self, unused: Mapping[str, float]) -> None:
        """Have the writes of unused containers keep to their limit, the ones used last longest."""
        total = 0
        for root_id in sorted(unused, key=lambda root_id: -unused[root_id]):
            root = Root(self._state_dir, root_id)
            with self._failing(root.container):
                total += size_bytes(f"{root.folder}/upper")
                if total <= self._limit_bytes:
                    continue
                with root.lock():
                    if not running_jobs(self._runtime_dir) & set(root.jobs) and not FileSystem.overlays(root.folder):
                        self._discard(root, f"writes of {root.container}, above containers.writes_limit")

    def _unmount_steps(self) -> None:
        """Take away what a step that was killed has left mounted, where the runtime is our own."""
        folder = f"{self._runtime_dir}/mounts"
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            return
        running = running_jobs(self._runtime_dir)
        for name in names:
            path = f"{folder}/{name}"
            if name.partition(".")[0] not in running and self._act(f"mount of a step that has ended, {path}"):
                with self._failing(path):
                    unmount_own(path)
                    os.rmdir(path)

    def _remove_locks(self) -> None:
        if self._dry_run:
            return
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(f"{self._state_dir}/locks"):
                # Whoever holds it is at work, and removes it.
                with contextlib.suppress(SlurmFsxError), Root(self._state_dir, name).lock(0.0):
                    pass

    def _empty_trash(self) -> None:
        trash = f"{self._state_dir}/trash"
        with self._failing(trash), contextlib.suppress(FileNotFoundError):
            names = os.listdir(trash)
            for name in names:
                self._report(f"what {name.rpartition('.')[0] or name} has written")
            if not self._dry_run:
                empty_trash(trash, float("inf"))


def _take_down(root: Root, record: Record | None, overlays: list[FileSystem]) -> None:
    uid, gid = (record.uid, record.gid) if record else (0, 0)
    for overlay in overlays:
        unmount(overlay, uid, gid, LOOK_TIMEOUT_S)
    with contextlib.suppress(FileNotFoundError):
        unmount_own(f"{root.folder}/image")
    if record is None:
        return
    end_process(record.server, record.server_start)
    remove_folder(record.target, uid, gid, LOOK_TIMEOUT_S)


def size_bytes(folder: str) -> int:
    """Give what a tree takes on disk; what vanishes meanwhile does not count."""
    total = 0
    for path, folders, files in os.walk(folder):
        for name in (*folders, *files):
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(f"{path}/{name}").st_blocks * 512
    return total
