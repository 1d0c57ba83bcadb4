"""Image names, the files they are kept in, and what users write as a container's name.

An image is kept in ``REGISTRY_REPOSITORY-TAG.sqsh``, with every ``/`` written as ``_``:
``nvcr.io/nvidia/pytorch:24.01-py3`` in ``nvcr.io_nvidia_pytorch-24.01-py3.sqsh``. A file's name is read like this:

- a digest, ``@sha256-HEX`` at the end, is cut off;
- what stands before the first ``_`` is the registry, where it looks like one: it has dots and ends as a domain or an IP
  address does, or is ``localhost``, or has an escaped port or dot (``%3A``, ``%2E``). Otherwise the image is a local
  one, without a registry;
- the tag begins at the first ``-`` that a digit follows, else at the last ``-``;
- ``enroot import``'s own ``nvidia+pytorch+24.01-py3.sqsh`` is a local image too: enroot leaves the registry out;
- ``%XX`` stands for one of the characters that mean something above.

Where that would not read back as the same image, the characters in question are escaped. So reading undoes writing, and
two images never share a file.
"""

from __future__ import annotations

from ..errors import InvalidImageName, InvalidName
from ..values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIX = ".sqsh"
NAME_LIMIT_BYTES = 255
"""What Linux file systems take, Lustre too."""

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"
_DOCKER_HUB = ("index.docker.io", "registry-1.docker.io")
"""Other names of docker.io."""

_DIGITS = frozenset("0123456789")
_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz")
_LETTERS = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_HEX = frozenset("0123456789abcdef")
_HOST = _LOWER | _DIGITS | frozenset(".-")
_REPOSITORY = _LOWER | _DIGITS | frozenset("._-")
_TAG = _LETTERS | _DIGITS | frozenset("._-")
_TAG_LIMIT = 128  # Source: OCI Distribution Specification, "Pulling manifests"
_DIGEST_ALGORITHM = "sha256"
_DIGEST_DIGITS = 64

_ESCAPES = {char: f"%{ord(char):02X}" for char in "%+-_/@:"}
_ESCAPED_DOT = "%2E"
_UNESCAPES = {escape[1:]: char for char, escape in [*_ESCAPES.items(), (".", _ESCAPED_DOT)]}

_EXAMPLE = "write docker://nvcr.io/nvidia/pytorch:24.01-py3"


class ImageName(NamedTuple):
    """Registry, repository, tag and digest of an image."""

    registry: str
    """``nvcr.io``, ``localhost:5000``; empty for a local image, whose file names none."""

    repository: str
    """``nvidia/pytorch``."""

    tag: str
    """``24.01-py3``; empty where only a digest, or nothing, was given."""

    digest: str = ""
    """``sha256:HEX``, or empty."""

    @classmethod
    def parse(cls, uri: str) -> ImageName:
        """Read ``[docker://][REGISTRY/]REPOSITORY[:TAG][@sha256:HEX]``, or enroot's ``REGISTRY#REPOSITORY:TAG``.

        The first component is a registry if it holds a ``.`` or a ``:``, or is ``localhost``; the registry defaults to
        docker.io, and the tag to ``latest`` where there is no digest.

        Raises:
            InvalidImageName: no registry would accept it.
        """
        scheme, separator, rest = uri.rpartition("://")
        if separator and scheme != "docker":
            raise InvalidImageName(f"{_shown(uri)} is no docker:// URI", hint=_EXAMPLE)
        rest, at, digest = rest.partition("@")
        if at and not _is_digest(digest):
            raise InvalidImageName(
                f"{_shown(uri)} has no digest after its @",
                hint="a digest is sha256: and 64 hexadecimal digits; a user's name belongs in enroot's .credentials",
            )
        registry, path = _cut_registry(rest)
        registry = DEFAULT_REGISTRY if registry in _DOCKER_HUB else registry
        if not _is_host(registry):
            raise InvalidImageName(f"{_shown(uri)} has no valid registry", hint="write HOST.DOMAIN or HOST:PORT")
        repository, colon, tag = path.partition(":")
        if registry == DEFAULT_REGISTRY and repository and "/" not in repository:
            repository = f"library/{repository}"
        if not all(_is_component(component) for component in repository.split("/")):
            raise InvalidImageName(f"{_shown(uri)} has no valid repository", hint=f"{_EXAMPLE}, in lower case")
        if not colon and not digest:
            tag = DEFAULT_TAG
        elif colon and not _is_tag(tag):
            raise InvalidImageName(f"{_shown(uri)} has no valid tag", hint=_EXAMPLE)
        return cls(registry, repository, tag, digest)

    @classmethod
    def from_file_name(cls, stem: str) -> ImageName:
        """Read the name of an image's file, without its ``.sqsh``. Every text is some image's name."""
        stem, digest = _cut_file_digest(stem)
        head, _, rest = stem.partition("_")
        if rest and _reads_as_registry(head):
            repository, tag = _cut_file_tag(rest)
            return cls(_unescape(head), _unescape(repository.replace("_", "/")), _unescape(tag), digest)
        repository, plus, tag = stem.rpartition("+")
        if plus and repository:
            return cls("", _unescape(repository.replace("+", "/")), _unescape(tag), digest)
        repository, tag = _cut_file_tag(stem)
        return cls("", _unescape(repository), _unescape(tag), digest)

    @property
    def uri(self) -> str:
        """``docker://REGISTRY/REPOSITORY:TAG@DIGEST``; empty for a local image."""
        return f"docker://{self}" if self.registry else ""

    @property
    def file_name(self) -> str:
        """The name of the file that this image is kept in.

        Raises:
            InvalidImageName: it would be longer than a file's name may be.
        """
        stem = next(form for form in self._file_forms() if self.from_file_name(form) == self)
        if len(stem.encode()) + len(SUFFIX) > NAME_LIMIT_BYTES:
            raise InvalidImageName(
                f"{_shown(str(self))} is too long for a file's name, which has at most {NAME_LIMIT_BYTES} bytes",
                hint="tag it with a shorter name, and import that",
            )
        return stem + SUFFIX

    @property
    def full_repository(self) -> str:
        """``nvcr.io/nvidia/pytorch``."""
        return f"{self.registry}/{self.repository}" if self.registry else self.repository

    @property
    def short_name(self) -> str:
        """The last part of the repository, ``pytorch``."""
        return self.repository.rpartition("/")[2]

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.full_repository}{tag}{digest}"

    def _file_forms(self) -> Iterator[str]:
        """Give the ways to write this name, the plainest first; the last one always reads back."""
        digest = f"@{self.digest.replace(':', '-')}" if self.digest else ""
        tag = f"-{self.tag}" if self.tag else ""
        escaped_tag = f"-{_escape(self.tag)}" if self.tag else ""
        if not self.registry:
            yield f"{self.repository}{tag}{digest}"
            yield f"{self.repository}/{self.tag}".replace("/", "+") + digest
            yield f"{_escape(self.repository)}{escaped_tag}{digest}"
            return
        registry = _escape_port(self.registry)
        yield f"{registry}_{self.repository}".replace("/", "_") + tag + digest
        repository = "_".join(_escape(component) for component in self.repository.split("/"))
        yield f"{registry}_{repository}{escaped_tag}{digest}"
        yield f"{registry.replace('.', _ESCAPED_DOT)}_{repository}{escaped_tag}{digest}"


class ContainerName(NamedTuple):
    """What a user wrote behind ``--container-name=``."""

    name: str
    flags: str
    """Pyxis's, e.g. ``no_exec``; or empty."""

    @classmethod
    def parse(cls, text: str) -> ContainerName:
        """Cut Pyxis's flags off, and check the rest.

        Raises:
            InvalidName: no image can be called by it.
        """
        name, _, flags = text.partition(":")
        if not is_container_name(name):
            raise InvalidName(
                f"{_shown(text)} is no name of an image",
                hint="a name begins with a letter, a digit or _, has no / and no control character, "
                f"and is at most {NAME_LIMIT_BYTES} bytes long",
            )
        return cls(name, flags)


def is_container_name(name: str) -> bool:
    """Whether an image can be called by this name.

    It begins with a letter, a digit or ``_``: so it is never ``..``, an option of a program, or a comment in the index.
    """
    return (
        (name[:1].isalnum() or name[:1] == "_")
        and name.isprintable()  # neither control characters nor bytes that are no UTF-8
        and "/" not in name
        and ":" not in name
        and len(name.encode()) <= NAME_LIMIT_BYTES
    )


_PRE_RELEASES = {"dev": 0, "nightly": 0, "alpha": 1, "beta": 2, "pre": 3, "preview": 3, "rc": 4}
_PRE_RELEASE, _END, _WORD, _NUMBER = range(4)
"""How the parts of a tag compare: ``1.0-rc1`` < ``1.0`` < ``1.0-py3`` < ``1.0.1``."""

TagOrder = tuple[int, tuple[tuple[int, int, str], ...], str]


def tag_order(tag: str) -> TagOrder:
    """Give a key that sorts tags from the oldest version to the newest.

    Numbers compare as numbers, a release comes after its ``rc``, ``beta``, ``alpha`` and ``dev``, a version after a
    mere word, and ``latest`` before everything, since nobody knows what it is. Different tags have different keys.
    """
    if tag in ("", DEFAULT_TAG):
        return (1 if tag else 0, (), tag)
    parts = [
        (_NUMBER, int(part), "")
        if part[0] in _DIGITS
        else (_PRE_RELEASE, _PRE_RELEASES[part], "")
        if part in _PRE_RELEASES
        else (_WORD, 0, part)
        for part in _parts(tag.lower())
    ]
    if len(parts) > 1 and parts[0] == (_WORD, 0, "v") and parts[1][0] == _NUMBER:
        del parts[0]
    return (2, (*parts, (_END, 0, "")), tag)


def tag_prefixes(tag: str) -> Iterator[str]:
    """Give what pins a tag besides the whole of it: ``24`` and ``24.01`` for ``24.01-py3``."""
    for end, char in enumerate(tag):
        if char in "._-" and end:
            yield tag[:end]


def _parts(tag: str) -> Iterator[str]:
    """Divide a tag into numbers and words."""
    part = ""
    for char in tag:
        if char in "._-+":
            if part:
                yield part
            part = ""
        elif part and (char in _DIGITS) != (part[-1] in _DIGITS):
            yield part
            part = char
        else:
            part += char
    if part:
        yield part


def _cut_registry(text: str) -> tuple[str, str]:
    registry, hash_sign, path = text.partition("#")
    if hash_sign:
        if not _marks_registry(registry):
            return "", path
        return registry.lower(), path
    first, slash, path = text.partition("/")
    if slash and _marks_registry(first):
        return first.lower(), path
    return DEFAULT_REGISTRY, text


def _marks_registry(component: str) -> bool:
    return "." in component or ":" in component or component == "localhost"


def _is_host(text: str) -> bool:
    host, colon, port = text.partition(":")
    if colon and not (0 < len(port) <= 5 and _DIGITS.issuperset(port)):
        return False
    return bool(host) and _HOST.issuperset(host) and all(_has_firm_ends(label) for label in host.split("."))


def _is_component(text: str) -> bool:
    return _REPOSITORY.issuperset(text) and _has_firm_ends(text)


def _has_firm_ends(text: str) -> bool:
    """Whether a text begins and ends with a letter or digit."""
    return bool(text) and text[0] not in "._-" and text[-1] not in "._-"


def _is_tag(text: str) -> bool:
    return 0 < len(text) <= _TAG_LIMIT and _TAG.issuperset(text) and text[0] not in ".-"


def _is_digest(text: str) -> bool:
    algorithm, _, digits = text.partition(":")
    return algorithm == _DIGEST_ALGORITHM and len(digits) == _DIGEST_DIGITS and _HEX.issuperset(digits)


def _cut_file_digest(stem: str) -> tuple[str, str]:
    rest, _, digest = stem.rpartition("@")
    digest = digest.replace("-", ":", 1)
    return (rest, digest) if rest and _is_digest(digest) else (stem, "")


def _cut_file_tag(text: str) -> tuple[str, str]:
    """Cut a file's name into repository and tag."""
    start = text.find("-", 1)
    while start > 0 and text[start + 1 : start + 2] not in _DIGITS:
        start = text.find("-", start + 1)
    if start < 0:
        start = text.rfind("-", 1)
    if start < 0 or start == len(text) - 1:
        return text, ""
    return text[:start], text[start + 1 :]


def _reads_as_registry(head: str) -> bool:
    """Whether the beginning of a file's name is a registry; ``pytorch-24.01`` of ``pytorch-24.01_mine`` is none."""
    registry = _unescape(head)
    if not _is_host(registry):
        return False
    if registry == "localhost" or ":" in registry or _ESCAPED_DOT in head:
        return True
    labels = registry.split(".")
    is_address = len(labels) == 4 and all(_DIGITS.issuperset(label) for label in labels)
    return is_address or (len(labels) > 1 and _LOWER.issuperset(labels[-1]))


def _escape(text: str) -> str:
    return "".join([_ESCAPES.get(char, char) for char in text])


def _escape_port(registry: str) -> str:
    # Always: a colon divides names from Pyxis's flags, and the folders of an overlay mount from each other.
    return registry.replace(":", _ESCAPES[":"])


def _unescape(text: str) -> str:
    if "%" not in text:
        return text
    first, *rest = text.split("%")
    return first + "".join([_UNESCAPES[part[:2]] + part[2:] if part[:2] in _UNESCAPES else f"%{part}" for part in rest])


def _shown(text: str) -> str:
    """Quote what somebody wrote, for a message of one line."""
    return repr(text) if len(text) <= 80 else f"{text[:80]!r}..."
