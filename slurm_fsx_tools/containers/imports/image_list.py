"""``containers.txt``: which images the catalogue should hold."""

from __future__ import annotations

from typing import NamedTuple

from ...errors import InvalidImageName
from ..names import ImageName


class BadLine(NamedTuple):
    """A line that names no image."""

    file: str
    number: int
    """Counted from 1."""

    reason: str
    hint: str

    def __str__(self) -> str:
        return f"{self.file}:{self.number}: {self.reason}"


class ImageList(NamedTuple):
    """The images of a list, in its order and each once, and the lines that make no sense."""

    images: tuple[ImageName, ...]
    mistakes: tuple[BadLine, ...]

    @classmethod
    def parse(cls, text: str, file: str) -> ImageList:
        """Read one URI a line; what follows a ``#`` after white space or at the beginning of a line is a comment.

        enroot's own syntax has a ``#`` inside the URI: ``docker://nvcr.io#nvidia/pytorch:24.01-py3``.

        Args:
            text: The list.
            file: Its name, for messages.
        """
        images: dict[ImageName, None] = {}
        mistakes = []
        for number, line in enumerate(text.lstrip("\ufeff").split("\n"), start=1):
            words = line.split()
            comment = next((place for place, word in enumerate(words) if word.startswith("#")), len(words))
            if not comment:
                continue
            try:
                if comment > 1:
                    raise InvalidImageName(f"{line.strip()!r} is more than one URI", hint="write one a line")
                name = ImageName.parse(words[0])
                _ = name.file_name  # it may be too long for a file
            except InvalidImageName as error:
                mistakes.append(BadLine(file, number, error.message, error.hint))
            else:
                images[name] = None
        return cls(tuple(images), tuple(mistakes))
