"""Where a folder of images keeps what belongs to them: records, locks, unfinished imports."""

from __future__ import annotations

from typing import NamedTuple

STATE_FOLDER = ".slurm-fsx"


class Store(NamedTuple):
    """A folder of images: the catalogue, or one user's cache.

    Everything but the images is in its hidden state folder, which only the folder's owner can write to.
    """

    folder: str
    """Absolute path, e.g. ``/fsx/containers``."""

    @property
    def state(self) -> str:
        return f"{self.folder}/{STATE_FOLDER}"

    @property
    def index_file(self) -> str:
        """What every name means, for readers that cannot afford Python."""
        return f"{self.state}/index"

    @property
    def listing_file(self) -> str:
        """What root has seen of every image, for who lists thousands."""
        return f"{self.state}/listing"

    @property
    def records(self) -> str:
        """A file for each image: what it was made from, and its checksums."""
        return f"{self.state}/records"

    @property
    def locks(self) -> str:
        return f"{self.state}/locks"

    @property
    def staging(self) -> str:
        """Images that are being written; its owner's alone."""
        return f"{self.state}/staging"

    @property
    def layers(self) -> str:
        """Layers that were downloaded, for an import that goes on; its owner's alone."""
        return f"{self.state}/layers"

    @property
    def imports(self) -> str:
        """A file for each import, under way or ended: how far it is."""
        return f"{self.state}/imports"

    @property
    def registries(self) -> str:
        """A file for each registry: until when it wants to be left alone."""
        return f"{self.state}/registries"

    @property
    def uses(self) -> str:
        """A folder for each image, with an empty file for each job that started from it, named by the job's id."""
        return f"{self.state}/uses"

    @property
    def references(self) -> str:
        """In a user's cache, a file for each name that a job asked for: which image it meant."""
        return f"{self.state}/references"

    @property
    def caches(self) -> str:
        """A folder for each user, by uid and theirs alone: images that their own jobs imported."""
        return f"{self.state}/caches"

    def path(self, file: str) -> str:
        """Give the path of an image."""
        return f"{self.folder}/{file}"

    def lock(self, file: str) -> str:
        """Give the lock of an image: whoever imports it or removes it holds this.

        It lies in one of 256 folders: who takes a lock lists its folder, and there may be tens of thousands of images.
        """
        import hashlib  # takes long to import, and those in a hurry take no lock

        return f"{self.locks}/{hashlib.sha256(file.encode(errors='surrogateescape')).hexdigest()[:2]}/{file}"

    def cache(self, uid: int) -> Store:
        """Give the store of one user's own images."""
        return Store(f"{self.caches}/{uid}")
