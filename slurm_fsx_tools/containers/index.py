"""The catalogue's index: every name that means an image, sorted, for readers that cannot afford Python.

``spank/index.c`` reads the same text: ``NAME<TAB>PATH`` lines in the order of their bytes, after a header that says for
which state of the folder, and for which configuration, they hold. Whoever misses a name, or finds the header no longer
true, asks ``slurm-fsx containers resolve``.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from ..errors import SharedFsUnavailable, SlurmFsxError
from ..files import open_folder, read_trusted, write_atomically
from .catalogue import Catalogue
from .listing import format_listing
from .resolution import lasting_meanings
from .store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..config.model import Config

_VERSION_LINE = b"# slurm-fsx index 1\n"
_LIMIT_BYTES = 1 << 28
_PATH_LIMIT_BYTES = 4096  # Linux: PATH_MAX

SETTLING_S = 2.0
"""How old a folder's last change must be for its time stamp to tell it from the next one.

Time stamps come from clocks that differ between clients, and some file systems keep seconds only.
"""

_SCANS = 3


class Index(NamedTuple):
    """Names and paths, with what they hold for."""

    folder_ns: int
    """The folder's modification time, as of before the scan."""

    policy: str
    """`Config.policy` of the configuration that it was made with."""

    is_complete: bool
    """Whether a name that is not in it was unknown or uncertain, and the folder had settled."""

    must_ask: bool
    """Whether a site plugin has a say in what a name means."""

    lines: bytes

    @classmethod
    def of(cls, catalogue: Catalogue, config: Config, is_complete: bool, must_ask: bool) -> Index:
        """Make the index of a catalogue: every name that means the same image to everybody."""
        found = lasting_meanings(catalogue, config)
        entries = sorted((name.encode(), image.path.encode()) for name, image in found.items())
        lines = b"".join([b"%b\t%b\n" % entry for entry in entries])
        return cls(catalogue.modified_ns, config.policy, is_complete, must_ask, lines)

    @classmethod
    def parse(cls, data: bytes) -> Index:
        """Read an index's text.

        Raises:
            SlurmFsxError: it is none, or one of another version.
        """
        first, second, lines = [*data.split(b"\n", 2), b"", b""][:3]
        try:
            if first + b"\n" != _VERSION_LINE or not second.startswith(b"# "):
                raise ValueError(first)
            fields = dict(word.split("=", 1) for word in second[2:].decode().split(" "))
            return cls(int(fields["folder"]), fields["policy"], fields["complete"] == "1", fields["ask"] == "1", lines)
        except (ValueError, KeyError) as error:
            raise SlurmFsxError("this is no index of version 1", hint="run: slurm-fsx containers index") from error

    def format(self) -> bytes:
        """Give the index's text."""
        header = f"# folder={self.folder_ns} policy={self.policy} complete={self.is_complete:d} ask={self.must_ask:d}\n"
        return _VERSION_LINE + header.encode() + self.lines

    def look_up(self, name: str) -> str | None:
        """Give the path of the image that a name means; None if the index does not have it, or no such path can be."""
        wanted = os.fsencode(name)
        low, high = 0, len(self.lines)
        while low < high:
            start = self.lines.rfind(b"\n", low, (low + high) // 2) + 1 or low
            end = self.lines.find(b"\n", start)
            end = end if end >= 0 else len(self.lines)
            found, _, path = self.lines[start:end].partition(b"\t")
            if found == wanted:
                return os.fsdecode(path) if _is_sane(path) else None
            if wanted < found:
                high = start
            else:
                low = end + 1
        return None

    def entries(self) -> Iterator[tuple[str, str]]:
        """Give every name with its path."""
        for line in self.lines.decode().split("\n")[:-1]:
            name, _, path = line.partition("\t")
            yield name, path


def index_path(folder: str) -> str:
    """Give the path of a containers folder's index."""
    return Store(folder).index_file


def read_index(path: str) -> Index:
    """Read an index that root, or the user of this process, has written.

    Raises:
        OSError: it is missing, or cannot be read.
        UntrustedFile: somebody else could have written it.
        SlurmFsxError: it is no index.
    """
    return Index.parse(read_trusted(path, limit_bytes=_LIMIT_BYTES))


def is_fresh(index: Index, folder: str, policy: str) -> bool:
    """Whether an index holds for a folder as it is now, under a configuration's policy, for whoever reads it.

    Raises:
        OSError: the folder is missing.
    """
    return (
        index.is_complete
        and not index.must_ask
        and index.policy == policy
        and index.folder_ns == os.stat(folder).st_mtime_ns
    )


def update_index(config: Config, must_ask: bool, sleep: Callable[[float], None] = time.sleep) -> Index:
    """Scan the containers folder, and write its index, and what `listing` keeps.

    Where the folder has just been changed, this waits until it has settled. The index of a folder that never does is
    written as not complete, and readers ask.

    Args:
        config: Names the folder; its aliases and preferred namespaces count.
        must_ask: Whether a site plugin has a say in what a name means.
        sleep: Waits for some seconds.

    Raises:
        SharedFsUnavailable: the folder cannot be listed.
        UntrustedFile: somebody else could write where the index is kept.
        OSError: it cannot be written.
    """
    folder = config.below_fsx("containers")
    index_folder_fd = _open_index_folder(folder)  # before the scan: making it changes the folder
    try:
        for _ in range(_SCANS):
            catalogue, is_settled = _scan(folder, sleep)
            if is_settled and os.stat(folder).st_mtime_ns == catalogue.modified_ns:
                break
        index = Index.of(catalogue, config, is_settled, must_ask)
        _write(index.format(), index_folder_fd, index_path(folder))
        # A listing of a folder that had not settled might be taken for one of what comes next.
        listing = format_listing(catalogue, config, time.time()) if is_settled else b""
        _write(listing, index_folder_fd, Store(folder).listing_file)
    finally:
        os.close(index_folder_fd)
    return index


def write_index(index: Index, folder: str) -> None:
    """Replace a containers folder's index.

    Raises:
        SharedFsUnavailable: the folder is missing.
        UntrustedFile: somebody else could write where the index is kept.
        OSError: it cannot be written.
    """
    index_folder_fd = _open_index_folder(folder)
    try:
        _write(index.format(), index_folder_fd, index_path(folder))
    finally:
        os.close(index_folder_fd)


def has_settled(modified_ns: int, now_ns: int) -> bool:
    """Whether a folder's next change will have another time stamp than its last one."""
    return abs(now_ns - modified_ns) >= SETTLING_S * 1e9


def _is_sane(path: bytes) -> bool:
    return path.startswith(b"/") and len(path) < _PATH_LIMIT_BYTES and b"\0" not in path


def _scan(folder: str, sleep: Callable[[float], None]) -> tuple[Catalogue, bool]:
    age_s = time.time() - os.stat(folder).st_mtime
    if abs(age_s) < SETTLING_S:
        sleep(SETTLING_S - age_s)
    now_ns = time.time_ns()
    catalogue = Catalogue.scan(folder)
    return catalogue, has_settled(catalogue.modified_ns, now_ns)


def _open_index_folder(folder: str) -> int:
    """Open the folder that the index is kept in, made if it is missing; nobody but its owner may write there."""
    path = os.path.dirname(index_path(folder))
    try:
        os.mkdir(path)
        os.chmod(path, 0o755)  # noqa: S103  # every user reads the index, whatever the umask is
    except FileExistsError:
        pass
    except FileNotFoundError as error:
        raise SharedFsUnavailable(
            f"there is no containers folder {folder}",
            hint="see whether the file system is mounted, or make the folder",
        ) from error
    return open_folder(path)


def _write(data: bytes, folder_fd: int, path: str) -> None:
    try:
        # By the descriptor that was checked: where users may rename in the containers folder, a path could lead astray.
        write_atomically(f"/proc/self/fd/{folder_fd}/{os.path.basename(path)}", data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
