"""Taking images out of a store, with all that belongs to them, under the lock that their import takes, too."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from ...errors import ImageInUse, ImageNotFound, InvalidName, UntrustedFile
from ...shared_lock import hold
from ...uses import forget, read_use
from ..imports.folders import make_lock_folder
from ..imports.state import forget_state
from ..names import SUFFIX, ImageName
from ..records import remove_record
from ..resolution import alias_stems

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from ...config.model import Config
    from ...shared_lock import Owner
    from ...uses import Activity, Use
    from ..catalogue import Catalogue
    from ..store import Store

LOCK_TIMEOUT_S = 30.0
"""How long an image's import is waited for; it holds the lock for as long as it takes."""


class Removal(NamedTuple):
    """A file that is gone."""

    file: str
    freed_bytes: int
    """None of them where another name of the file is left."""


def file_of(name: str, catalogue: Catalogue) -> str:
    """Give the file that a name stands for, without any choice among several: a file's name or an image's whole URI.

    Raises:
        ImageNotFound: the folder has no such file.
    """
    stem = name.removesuffix(SUFFIX)
    if stem in catalogue.names:
        return stem + SUFFIX
    if "/" in name or ":" in name:
        try:
            wanted = ImageName.parse(name)
        except InvalidName as error:
            raise ImageNotFound(
                f"{name!r} is no file of {catalogue.folder}: {error.message}", hint=error.hint
            ) from error
        for stem, known in catalogue.names.items():
            if known == wanted:
                return stem + SUFFIX
    raise ImageNotFound(
        f"{name!r} is no file of {catalogue.folder}",
        hint="name a file or a whole URI, since a short name means another image tomorrow: slurm-fsx containers list",
    )


def check_removable(file: str, catalogue: Catalogue, config: Config, use: Use, activity: Activity) -> None:
    """Raise ImageInUse if an alias or link names this image, or a job that has not ended started from it.

    Args:
        file: The image.
        catalogue: Its and other images.
        config: Its aliases count.
        use: Who uses it, as read before Slurm was asked.
        activity: What Slurm says.
    """
    stem = file[: -len(SUFFIX)]
    alias = alias_stems(catalogue, config).get(stem)
    if alias:
        raise ImageInUse(f"{file} is what the alias {alias!r} means", hint="change containers.aliases first")
    links = links_to(catalogue).get(file)
    if links:
        raise ImageInUse(f"{file} is what the link {links[0]} leads to", hint=f"remove {links[0]} first")
    jobs = activity.running(use)
    if jobs:
        more = f" and {len(jobs) - 1} others" if len(jobs) > 1 else ""
        raise ImageInUse(
            f"{file} is in use by job {activity.words(jobs[0])}{more}", hint="wait until it has ended, or cancel it"
        )


def links_to(catalogue: Catalogue) -> dict[str, list[str]]:
    """Give the links to each file of a catalogue, by the file."""
    found: dict[str, list[str]] = {}
    for stem in catalogue.names:
        image = catalogue.image(stem) if catalogue.is_link(stem) else None
        if image:
            found.setdefault(image.path[len(catalogue.folder) + 1 :], []).append(stem + SUFFIX)
    return found


def remove_image(
    file: str, store: Store, known_jobs: Collection[str] | None, on_wait: Callable[[Owner], None] | None = None
) -> Removal:
    """Remove an image with its record and what is known of its import and use; of a symbolic link, the link alone.

    The files of its lock stay, a few bytes: their numbers go on, so that whoever slept for long sees what it lost.

    A job that has it mounted keeps it until it ends on Lustre and local disks, as a file that is still open.

    Args:
        file: The image, in the store's folder itself.
        store: Whose.
        known_jobs: The jobs that have started from it and are known to have ended. If there is another by now, the
            image stays. None: whoever uses it loses it.
        on_wait: Told who is importing it, while that is waited for.

    Raises:
        ImageInUse: a job has started from it meanwhile.
        LockTimeout: it is being imported.
        OSError: it cannot be removed.
        UntrustedFile: somebody else could write where records and locks are.
    """
    make_lock_folder(store, file)
    with hold(store.lock(file), timeout_s=LOCK_TIMEOUT_S, on_wait=on_wait):
        folder_fd = os.open(store.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            status = os.stat(file, dir_fd=folder_fd, follow_symlinks=False)
            if not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
                raise UntrustedFile(f"{file} is neither a file nor a link", hint="see how it came there")
            new_jobs: Collection[str] = (
                () if known_jobs is None else read_use(store.uses, file).jobs.difference(known_jobs)
            )
            if new_jobs:
                raise ImageInUse(f"{file} is in use by job {min(new_jobs)}", hint="wait until it has ended")
            remove_record(store, file)
            os.unlink(file, dir_fd=folder_fd)
            forget_state(store, file)
        finally:
            os.close(folder_fd)
        forget(store.uses, file)
    return Removal(file, status.st_size if status.st_nlink == 1 and stat.S_ISREG(status.st_mode) else 0)
