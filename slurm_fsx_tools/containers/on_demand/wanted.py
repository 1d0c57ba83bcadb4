"""What users write as an image: a name of the catalogue, an enroot URI, or a path."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from ...errors import SlurmFsxError
from ..index import index_path, is_fresh, read_index
from ..names import SUFFIX, ContainerName, ImageName, is_container_name

if TYPE_CHECKING:
    from ...config.model import Config
    from ...job import Job

_SCHEME = "docker://"


class Wanted(NamedTuple):
    """An image as somebody asked for it."""

    name: str
    """What the catalogue may call it: the name that the user wrote, or the stem of an image's file."""

    uri: str
    """What a registry may call it."""

    is_short: bool
    """Whether the user wrote a name as ``--container-name`` takes it."""

    @classmethod
    def parse(cls, text: str, config: Config) -> Wanted:
        """Read what stands behind ``--container-image=``, with or without the ``docker://`` that Pyxis puts before it.

        Raises:
            InvalidImageName: it is neither a name nor a URI.
        """
        bare = text.removeprefix(_SCHEME)
        if is_container_name(bare) and "#" not in bare and "@" not in bare:
            return cls(bare, config["containers.aliases"].get(bare) or _SCHEME + bare, True)
        return cls(ImageName.parse(text).file_name[: -len(SUFFIX)], text, False)

    @classmethod
    def of_job(cls, job: Job, config: Config) -> Wanted | None:
        """Read what a job named at its submission; None where that is no image of the catalogue's."""
        try:
            if not job.image:
                return cls(ContainerName.parse(job.container).name, "", True) if job.container else None
            if job.image.startswith((".", "/")):
                folder, file = os.path.split(job.image)
                if folder != config.below_fsx("containers") or not file.endswith(SUFFIX):
                    return None
                return cls(file[: -len(SUFFIX)], "", False)
            return cls.parse(job.image, config)
        except SlurmFsxError:
            return None

    @property
    def image(self) -> ImageName:
        """What to ask a registry for.

        Raises:
            InvalidImageName: no registry would accept it.
        """
        return ImageName.parse(self.uri)


def look_up(wanted: Wanted, config: Config) -> str | None:
    """Give the path of the image by the index; None where that has no answer, or cannot be believed now."""
    folder = config.below_fsx("containers")
    try:
        index = read_index(index_path(folder))
        return index.look_up(wanted.name) if is_fresh(index, folder, config.policy) else None
    except (OSError, SlurmFsxError):
        return None
