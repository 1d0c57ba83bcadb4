"""What ``slurm-fsx containers list`` shows: every image with its names, and what each short name means.

Looking into thousands of files takes a second, and longer on a shared file system. So root keeps what it saw beside the
index (`format_listing`), for as long as the folder's entries stay as they are, and a day at most: an image that is
overwritten in place leaves the folder's time as it was, and only a new look shows its size. Looked at each time are all
files that root found no image every user may read, links, and files that were changed within the hour before; so are
all files of a folder with few. Nobody starts a job by a listing: `resolution` looks at the file itself.
"""

from __future__ import annotations

import json
import os
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ImageNotFound, SharedFsUnavailable, SlurmFsxError
from ..files import read_trusted
from .catalogue import Catalogue, Image, Known, Reject
from .names import SUFFIX, ImageName, tag_order
from .resolution import answers, answers_to, claims_by_name

if TYPE_CHECKING:
    from ..config.model import Config
    from .names import TagOrder
    from .store import Store

VERSION_LINE = "# slurm-fsx listing 1"
LIMIT_BYTES = 1 << 28
LASTING_S = 24 * 3600.0
"""How long a kept listing is believed."""

WRITTEN_IN_PLACE_S = 3600.0
"""A file that was changed this shortly before it was seen may still be being written."""

FEW = 200
"""In a folder with fewer files, all are looked at each time: it takes some milliseconds."""

_COLUMNS = ("stem", "registry", "repository", "tag", "digest", "size_bytes", "modified_s", "names")
_BETWEEN_IMAGES, _BETWEEN_NAMES = "\t", "\x1f"  # neither is in what can be printed, as every name here


class Listing(NamedTuple):
    """The images of a folder, with what can be said to mean them."""

    folder: str
    images: list[Image]
    """By short name, then repository, then version."""

    short_names: dict[str, Image | ImageNotFound]
    """What each alias, and each repository's last part, means now."""

    rejects: list[Reject]
    kept_names: dict[str, str]
    """By an image's stem: the names that mean it, in order, as `format_listing` writes them."""

    decided_names: dict[str, list[str]]
    """The same for names that had to be decided anew; in no order."""

    def names(self, image: Image) -> list[str]:
        """Give the names that mean an image now, the shortest first; none where an alias has the only one."""
        kept = [name for name in self.kept_names.get(image.stem, "").split(_BETWEEN_NAMES) if name]
        decided = self.decided_names.get(image.stem)
        return sorted(kept + decided, key=_by_length) if decided else kept


def list_images(store: Store, config: Config, now_s: float, few: int = FEW) -> Listing:
    """List a folder's images, by what root has kept of them where that still holds.

    Args:
        store: Where the images are.
        config: Its aliases and preferred namespaces count.
        now_s: Seconds since 1970.
        few: In a folder with fewer files, each is looked at.

    Raises:
        SharedFsUnavailable: the folder cannot be listed.
    """
    kept = _read_kept(store, config, now_s, few)
    return kept or list_anew(Catalogue.scan(store.folder), config)


def list_anew(catalogue: Catalogue, config: Config) -> Listing:
    """Make the listing of a catalogue, by a look into every file."""
    found = answers(catalogue, config)
    images = sorted(catalogue.images, key=_by_name_and_version)
    names: dict[str, list[str]] = {image.stem: [] for image in images}
    for name, answer in found.items():
        if not isinstance(answer, ImageNotFound):
            names[answer.stem].append(name)
    short = {image.name.short_name for image in images}.union(config["containers.aliases"])
    return Listing(
        catalogue.folder,
        images,
        {name: found[name] for name in sorted(short) if name in found},
        catalogue.rejects,
        {},
        names,
    )


def format_listing(catalogue: Catalogue, config: Config, now_s: float) -> bytes:
    """Give the text that a listing is kept in.

    Two lines of header; a line of JSON with everything about files that are to be looked at again; then the other
    images, in a line for each of `_COLUMNS`: 10,000 rows would take twice the time to read.
    """
    listing = list_anew(catalogue, config)
    certain = [image for image in listing.images if _is_certain(image, catalogue, now_s)]
    stems = {image.stem for image in certain}
    uncertain = [stem for stem in catalogue.names if stem not in stems]
    claimed = claims_by_name(catalogue, config)
    disputed = {
        name: [claim.stem for claim in claims]
        for name, claims in claimed.items()
        if any(claim.stem not in stems for claim in claims)
    }
    short = {name: answer for name, answer in listing.short_names.items() if name not in disputed}
    rest = {
        "uncertain": {stem: catalogue.is_link(stem) for stem in uncertain},
        "disputed": disputed,
        "means": {name: answer.stem for name, answer in short.items() if isinstance(answer, Image)},
        "missed": {
            name: [answer.message, answer.hint] for name, answer in short.items() if isinstance(answer, ImageNotFound)
        },
        "refused": catalogue.refused,
    }
    header = f"# folder={catalogue.modified_ns} policy={config.policy} written={now_s:.0f}"
    lines = [VERSION_LINE, header, json.dumps(rest)]
    rows = [
        (
            image.stem,
            *image.name,
            str(image.size_bytes),
            repr(image.modified_s),
            _BETWEEN_NAMES.join([name for name in listing.names(image) if name not in disputed]),
        )
        for image in certain
    ]
    lines += [_BETWEEN_IMAGES.join(column) for column in zip(*rows)]
    return ("\n".join(lines) + "\n").encode()


def _read_kept(store: Store, config: Config, now_s: float, few: int) -> Listing | None:
    """Give the listing that root has kept; None where there is none that holds."""
    try:
        lines = read_trusted(store.listing_file, limit_bytes=LIMIT_BYTES).decode().split("\n")
        folder_ns = os.stat(store.folder).st_mtime_ns
        fields = dict(word.split("=", 1) for word in lines[1][2:].split(" "))
        holds = (
            lines[0] == VERSION_LINE
            and int(fields["folder"]) == folder_ns
            and fields["policy"] == config.policy
            and abs(now_s - int(fields["written"])) < LASTING_S
        )
        return _restore(store, config, folder_ns, json.loads(lines[2]), lines[3:-1], few) if holds else None
    except SharedFsUnavailable:
        raise
    except (OSError, SlurmFsxError, ValueError, LookupError, TypeError):
        return None  # it saves time, and is missed by nobody


def _restore(
    store: Store, config: Config, folder_ns: int, rest: dict[str, Any], lines: list[str], few: int
) -> Listing | None:
    columns = [line.split(_BETWEEN_IMAGES) for line in lines] or [[] for _ in _COLUMNS]
    stems, registries, repositories, tags, digests, sizes, times, names = columns
    if len({len(column) for column in columns}) > 1 or len(stems) + len(rest["uncertain"]) < few:
        return None
    image_names = list(map(ImageName, registries, repositories, tags, digests))
    paths = [store.path(stem + SUFFIX) for stem in stems]
    images = list(map(Image, stems, image_names, paths, map(int, sizes), map(float, times), repeat(True)))
    by_stem = dict(zip(stems, images))
    known = Known(
        folder_ns,
        {**dict(zip(stems, image_names)), **{stem: ImageName.from_file_name(stem) for stem in rest["uncertain"]}},
        by_stem,
        [stem for stem, is_link in rest["uncertain"].items() if is_link],
        [Reject(*reject) for reject in rest["refused"]],
    )
    catalogue = Catalogue(store.folder, known)
    catalogue.look_into(rest["uncertain"])
    more = [image for stem in rest["uncertain"] for image in [catalogue.image(stem)] if image]
    found = answers_to(rest["disputed"], catalogue, config)
    short: dict[str, Image | ImageNotFound] = {name: by_stem[stem] for name, stem in rest["means"].items()}
    short.update({name: ImageNotFound(*words) for name, words in rest["missed"].items()})
    decided: dict[str, list[str]] = {}
    for name, answer in found.items():
        if not isinstance(answer, ImageNotFound):
            decided.setdefault(answer.stem, []).append(name)
        owners = (catalogue.image(stem) for stem in rest["disputed"][name])
        if name in config["containers.aliases"] or any(image and image.name.short_name == name for image in owners):
            short[name] = answer
    if more:
        images = sorted(images + more, key=_by_name_and_version)
    short = {name: short[name] for name in sorted(short)}
    return Listing(store.folder, images, short, catalogue.rejects, dict(zip(stems, names)), decided)


def _is_certain(image: Image, catalogue: Catalogue, now_s: float) -> bool:
    return image.is_for_all and not catalogue.is_link(image.stem) and now_s - image.modified_s > WRITTEN_IN_PLACE_S


def _by_name_and_version(image: Image) -> tuple[str, str, TagOrder, str]:
    return (image.name.short_name, image.name.full_repository, tag_order(image.name.tag), image.stem)


def _by_length(name: str) -> tuple[int, str]:
    return (len(name), name)
