"""Whether an image's file still is what was imported, and can be read to its last folder."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING, NamedTuple

from ..names import SUFFIX
from ..records import describes, read_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..catalogue import Catalogue
    from ..records import Record
    from ..store import Store

UNSQUASHFS_TIMEOUT_S = 120.0
"""Some 100,000 files take two seconds."""

AS_ROOT = "run this as root"
"""What to do about an image that this user may not read."""

_MEMORY_LIMIT_BYTES = 4 << 30
_TALK_LIMIT_BYTES = 1 << 16
_CHUNK_BYTES = 1 << 20
_NOBODY = 65534


class Verification(NamedTuple):
    """What was found about an image."""

    file: str
    problem: str
    """Why it cannot be relied on; empty where nothing speaks against it."""

    hint: str
    """What to do about the problem."""

    record: Record | None
    """None where the image was not imported by this software: then there is nothing to compare its bytes with."""

    is_listed: bool
    """Whether all its folders were read: by unsquashfs, where that is installed."""

    is_hashed: bool
    """Whether the whole file was read and compared."""


def verify(
    stem: str,
    store: Store,
    catalogue: Catalogue,
    is_quick: bool,
    on_bytes: Callable[[int], None],
    limit_s: float | None = None,
) -> Verification | None:
    """Look at everything that can be known about an image; None where it is gone by now.

    Args:
        stem: The image, or what is rejected as one.
        store: Whose record counts.
        catalogue: The image's.
        is_quick: Leave out the checksum, for which the whole file is read.
        on_bytes: Told how many more bytes have been read for the checksum.
        limit_s: For who has little time: how long its folders may be read, and that they count as not listed if that is
            not enough.
    """
    file = stem + SUFFIX
    image = catalogue.image(stem)
    if image is None:
        reject = catalogue.reject(stem)
        if reject and not os.access(store.path(file), os.R_OK) and os.path.exists(store.path(file)):
            return Verification(file, reject.reason, AS_ROOT, read_record(store, file), False, False)
        return _damaged(file, reject.reason, read_record(store, file)) if reject else None
    place = image.path[len(catalogue.folder) + 1 :]
    record = read_record(store, place)
    try:
        fd = os.open(image.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        return _damaged(file, f"it cannot be opened: {error.strerror}", record)
    lister = shutil.which("unsquashfs")
    try:
        status = os.fstat(fd)
        if record and not describes(record, status):
            return _damaged(file, _difference(record, status), record)
        try:
            problem = _why_unreadable(lister, fd, status, limit_s or UNSQUASHFS_TIMEOUT_S) if lister else ""
        except subprocess.TimeoutExpired:
            problem = "" if limit_s else f"unsquashfs has not read its folders within {UNSQUASHFS_TIMEOUT_S:g} s"
            lister = None
        if not problem and record and not is_quick:
            problem = _compare(fd, record, on_bytes)
    except OSError as error:
        problem = f"it cannot be read: {error.strerror}"
    finally:
        os.close(fd)
    if problem:
        return _damaged(file, problem, record)
    return Verification(file, "", "", record, bool(lister), record is not None and not is_quick)


def _damaged(file: str, problem: str, record: Record | None) -> Verification:
    again = f"slurm-fsx containers import {record.uri}" if record else "copy it here again"
    return Verification(file, problem, f"run: slurm-fsx containers remove {file}; then {again}", record, False, False)


def _difference(record: Record, status: os.stat_result) -> str:
    if record.size_bytes != status.st_size:
        return f"it has {status.st_size} bytes, and {record.size_bytes} when it was imported"
    return "it was changed since it was imported"


def _compare(fd: int, record: Record, on_bytes: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    os.lseek(fd, 0, os.SEEK_SET)
    while True:
        chunk = os.read(fd, _CHUNK_BYTES)
        if not chunk:
            break
        digest.update(chunk)
        on_bytes(len(chunk))
    found = digest.hexdigest()
    return "" if found == record.sha256 else f"its sha256 is {found}, and was {record.sha256} when it was imported"


def _why_unreadable(lister: str, fd: int, status: os.stat_result, limit_s: float) -> str:
    """Have unsquashfs read all folders of an image; say what it cannot read, empty where it can.

    Raises subprocess.TimeoutExpired.

    The image may have been made to hurt its reader: so that is not root, has little memory and time, and what it says
    is cut.
    """
    command = [lister, "-no-progress", "-processors", "1", "-data-queue", "16", "-frag-queue", "16"]
    command += ["-lls", f"/proc/self/fd/{fd}"]
    user = _NOBODY if status.st_mode & 0o004 else status.st_uid
    become = {"user": user, "group": status.st_gid, "extra_groups": []} if os.geteuid() == 0 and user else {}

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT_BYTES, _MEMORY_LIMIT_BYTES))
        resource.setrlimit(resource.RLIMIT_FSIZE, (_TALK_LIMIT_BYTES, _TALK_LIMIT_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    with tempfile.TemporaryFile() as talk:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=talk,
            env={"PATH": os.defpath, "LC_ALL": "C"},
            pass_fds=(fd,),
            preexec_fn=limit,  # this process has no thread
            timeout=limit_s,
            check=False,
            **become,  # type: ignore[call-overload]
        )
        if done.returncode == 0:
            return ""
        talk.seek(0)
        lines = talk.read(_TALK_LIMIT_BYTES).decode(errors="replace").strip().splitlines()
    said = next((line for line in lines if "FATAL" in line), lines[0] if lines else "")[:200]
    printable = said if said.isprintable() else repr(said)
    how = f"signal {-done.returncode}" if done.returncode < 0 else f"code {done.returncode}"
    return f"its folders cannot be read: unsquashfs ended with {how}: {printable}"
