"""The images in the containers folder, and why some files there are none."""

from __future__ import annotations

import os
import stat

from ..errors import SharedFsUnavailable
from ..values import NamedTuple
from .names import SUFFIX, ImageName
from .squashfs import SUPERBLOCK_BYTES, why_unusable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_ALONE = 200
"""Fewer files than this are looked into one after the other."""
_THREADS = 8


class Image(NamedTuple):
    """A file that can be started from."""

    stem: str
    """Its name in the folder, without ``.sqsh``."""

    name: ImageName
    path: str
    """Absolute. Where the name is a symbolic link, this is the file behind it, so that a job keeps it."""

    size_bytes: int
    modified_s: float
    is_for_all: bool
    """Whether it lies in the folder itself and every user may read it: then it is an image for all, or for none."""


class Reject(NamedTuple):
    """A file that is no candidate for any name."""

    file: str
    reason: str


class Known(NamedTuple):
    """What is known of a folder whose entries have not changed since."""

    modified_ns: int
    names: dict[str, ImageName]
    images: dict[str, Image]
    links: list[str]
    refused: list[Reject]


class Catalogue:
    """The images in a folder: listed at once, each looked into when somebody asks for it.

    Args:
        folder: Absolute path, e.g. ``/fsx/containers``.
        known: What need not be looked at again; the folder is not listed then.

    Raises:
        SharedFsUnavailable: the folder cannot be listed.
    """

    def __init__(self, folder: str, known: Known | None = None) -> None:
        self.folder = folder
        self._images: dict[str, Image] = {}
        self._rejects: dict[str, Reject] = {}
        self._links: set[str] = set()
        self.refused: list[Reject] = []
        """What is a reject by its name or kind alone, without a look into it."""
        self.names: dict[str, ImageName] = {}
        """Every stem, in order, with the image's name that it spells; what is behind it may prove to be a reject."""
        self.modified_ns: int
        """The folder's modification time, as of before it was listed."""
        if known:
            self.modified_ns, self.names, self._images = known.modified_ns, known.names, known.images
            self._links = set(known.links)
            self._rejects = {reject.file: reject for reject in known.refused}
            return
        try:
            folder_fd = self._open_folder()
            try:
                self.modified_ns = os.fstat(folder_fd).st_mtime_ns
                self._list(folder_fd)
            finally:
                os.close(folder_fd)
        except OSError as error:
            raise SharedFsUnavailable(
                f"the containers folder {folder} cannot be listed: {error.strerror}",
                hint="see whether the file system is mounted, or set fsx.root",
            ) from error

    @classmethod
    def scan(cls, folder: str) -> Catalogue:
        """List a folder, and look into every file."""
        catalogue = cls(folder)
        catalogue.look_into(catalogue.names)
        return catalogue

    @property
    def images(self) -> list[Image]:
        """The images among the files looked into, in the order of their names."""
        return [self._images[stem] for stem in sorted(self._images)]

    @property
    def rejects(self) -> list[Reject]:
        """The rejects among the files looked into, in the order of their names."""
        return [self._rejects[file] for file in sorted(self._rejects)]

    def is_link(self, stem: str) -> bool:
        """Whether this name is a symbolic link."""
        return stem in self._links

    def image(self, stem: str) -> Image | None:
        """Give the image with this stem; None where there is none, or the file is a reject."""
        if stem not in self._images and stem in self.names:
            self.look_into([stem])
        return self._images.get(stem)

    def images_of(self, stems: Iterable[str]) -> list[Image]:
        """Give the images among these files, in their order."""
        return [image for stem in stems for image in [self.image(stem)] if image]

    def reject(self, stem: str) -> Reject | None:
        """Give the reject with this stem."""
        return self._rejects.get(stem + SUFFIX)

    def look_into(self, stems: Iterable[str]) -> None:
        """Look into files that nobody has looked into yet."""
        unknown = [stem for stem in stems if stem not in self._images and stem + SUFFIX not in self._rejects]
        if not unknown:
            return
        folder_fd = self._open_folder()
        if len(unknown) < _ALONE:
            self._look_into_batch(folder_fd, unknown)
            return
        # On a shared file system each file is a wait for its server, and the waits of several threads overlap.
        from threading import Thread

        threads = []
        for first in range(1, _THREADS):
            batch = (os.dup(folder_fd), unknown[first::_THREADS])
            thread = Thread(target=self._look_into_batch, args=batch, daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the user may have no more of them: then this one does it all
                self._look_into_batch(*batch)
            else:
                threads.append(thread)
        self._look_into_batch(folder_fd, unknown[::_THREADS])
        for thread in threads:
            thread.join()

    def _look_into_batch(self, folder_fd: int, stems: list[str]) -> None:
        """Look into some files, and close the folder."""
        try:
            real_folder = _real_path(folder_fd)
            for stem in stems:
                found = self._look_into(folder_fd, real_folder, stem)
                if isinstance(found, Image):
                    self._images[stem] = found
                elif found:
                    self._rejects[stem + SUFFIX] = Reject(stem + SUFFIX, found)
        finally:
            os.close(folder_fd)

    def _open_folder(self) -> int:
        return os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def _list(self, folder_fd: int) -> None:
        stems = []
        with os.scandir(folder_fd) as entries:
            for entry in entries:
                file = entry.name
                if SUFFIX not in file:
                    continue
                reason = _refuse_entry(entry)
                if reason:
                    self._rejects[file] = Reject(file, reason)
                    continue
                stem = file[: -len(SUFFIX)]
                stems.append(stem)
                if entry.is_symlink():
                    self._links.add(stem)
        self.refused = list(self._rejects.values())
        self.names = {stem: ImageName.from_file_name(stem) for stem in sorted(stems)}

    def _look_into(self, folder_fd: int, real_folder: str, stem: str) -> Image | str:
        """Give the image, or why it is none; empty where the file is gone by now."""
        file = stem + SUFFIX
        try:
            if stem in self._links:
                fd, place = _open_link(folder_fd, real_folder, file)
            else:
                # The listing said that this is a file. If it is a FIFO or a link by now, neither hangs or misleads us.
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                fd, place = os.open(file, flags, dir_fd=folder_fd), file
        except _Refused as refusal:
            return str(refusal)
        except FileNotFoundError:
            return ""
        except PermissionError:
            return f"not readable for user {os.geteuid()}"
        except OSError as error:
            return f"cannot be opened: {error.strerror}"
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return "no file"
            reason = why_unusable(os.pread(fd, SUPERBLOCK_BYTES, 0), status.st_size)
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        finally:
            os.close(fd)
        return reason or Image(
            stem,
            self.names[stem],
            f"{self.folder}/{place}",
            status.st_size,
            status.st_mtime,
            bool(status.st_mode & stat.S_IROTH) and "/" not in place,
        )


class _Refused(Exception):
    """A symbolic link that must not be followed."""


def _refuse_entry(entry: os.DirEntry[str]) -> str:
    """Say why a folder's entry is no candidate, from its name and kind alone; empty if it is one."""
    if entry.name.startswith(".") or not entry.name.endswith(SUFFIX):
        return "not complete: a name of unfinished copies"
    if not entry.name.isprintable():
        return "a name with characters that cannot be printed"
    if not entry.is_symlink() and not entry.is_file(follow_symlinks=False):
        return "no file"
    return ""


def _open_link(folder_fd: int, real_folder: str, file: str) -> tuple[int, str]:
    """Open what a symbolic link leads to, if that is a file in the folder; give it with its place there.

    The check is made on an O_PATH descriptor, which neither reads nor waits nor wakes a device, and the same file is
    then opened: the link can be changed in between without effect.
    """
    try:
        target = os.open(file, os.O_PATH | os.O_CLOEXEC, dir_fd=folder_fd)
    except FileNotFoundError:
        raise _Refused(f"a link to {_shown_link(folder_fd, file)}, which is missing") from None
    try:
        path = _real_path(target)
        place = path[len(real_folder) + 1 :]
        if not path.startswith(f"{real_folder}/"):
            raise _Refused(f"a link to {_printable(path)}, outside the folder")
        if not place.isprintable() or place.startswith(".") or "/." in place:
            raise _Refused(f"a link to {_printable(path)}, which is hidden")
        if not stat.S_ISREG(os.fstat(target).st_mode):
            raise _Refused(f"a link to {_printable(path)}, which is no file")
        return os.open(f"/proc/self/fd/{target}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), place
    finally:
        os.close(target)


def _real_path(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")


def _shown_link(folder_fd: int, file: str) -> str:
    try:
        return _printable(os.readlink(file, dir_fd=folder_fd))
    except OSError:
        return "something"


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)[1:-1]
