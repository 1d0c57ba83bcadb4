"""From a container's name to its image.

A name means, in this order:

1. what an alias says, and nothing else, even if that image is not there;
2. the file whose stem it is;
3. the image with the highest tag among those whose repository ends in this name;
4. a pin, REPOSITORY-TAG: the image with exactly this tag; else the highest of the tags that begin with it, up to a
   ``.``, ``-`` or ``_``. Where a name can be divided in several ways, the longest repository counts.

In 3 and 4, images of several repositories may answer. Then the first namespace of ``containers.prefer`` that holds one
of them decides; where none does, the name means nothing, and the error lists them.
"""

from __future__ import annotations

from ..errors import ImageNotFound, InvalidName
from ..values import NamedTuple
from .names import SUFFIX, ContainerName, ImageName, is_container_name, tag_order, tag_prefixes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ..config.model import Config
    from .catalogue import Catalogue, Image

NEAREST_LIMIT = 3
_LISTED_LIMIT = 8
"""How many contenders an error lists."""

_HEADS_LIMIT = 4
"""How many beginnings of a name are tried as a repository, when something like it is looked for."""

_SEE = "see: slurm-fsx containers list"

_ALIAS, _STEM, _REPOSITORY, _EXACT_PIN, _PIN = range(5)


class Claim(NamedTuple):
    """A reason why a name may mean the image with this stem."""

    name: str
    step: tuple[int, int]
    """Where it stands in the order above; only the lowest of a name's claims count."""

    stem: str


def resolve(name: str, catalogue: Catalogue, config: Config) -> Image:
    """Give the image that a container's name means.

    Only the files that the name may mean are looked into.

    Args:
        name: What the user wrote; Pyxis's flags behind a ``:`` are cut off.
        catalogue: The images to choose from.
        config: Its aliases and preferred namespaces count.

    Raises:
        InvalidName: nothing could be called this.
        ImageNotFound: no image answers to the name, or several do; the message says what to write instead.
    """
    name = ContainerName.parse(name).name
    claims = _claims_on(name, catalogue, config)
    catalogue.look_into(claim.stem for claim in claims)
    answer = _decide(name, claims, catalogue, config)
    if not isinstance(answer, ImageNotFound):
        return answer
    if not claims and name not in config["containers.aliases"]:
        nearest = ", ".join(nearest_names(name, catalogue, config))
        answer.hint = f"nearest: {nearest}" if nearest else answer.hint
    raise answer


def answers(catalogue: Catalogue, config: Config) -> dict[str, Image | ImageNotFound]:
    """Give what every name means now to the user of this process: an image, or the reason why none."""
    catalogue.look_into(catalogue.names)
    return {
        name: _decide(name, claims, catalogue, config) for name, claims in claims_by_name(catalogue, config).items()
    }


def answers_to(
    names: Mapping[str, Iterable[str]], catalogue: Catalogue, config: Config
) -> dict[str, Image | ImageNotFound]:
    """Give what some names mean now, as `answers` does for all.

    Args:
        names: Each with the stems that have a claim on it.
        catalogue: The images to choose from.
        config: Its aliases and preferred namespaces count.
    """
    aliases = config["containers.aliases"]
    return {
        name: _decide(
            name,
            [Claim(name, (_ALIAS, 0), stem) for stem in stems]
            if name in aliases
            else [claim for stem in stems for claim in _claims(stem, catalogue.names[stem]) if claim.name == name],
            catalogue,
            config,
        )
        for name, stems in names.items()
    }


def claims_by_name(catalogue: Catalogue, config: Config) -> dict[str, list[Claim]]:
    """Give the claims on every name; no file is looked into, so some may prove to be no images."""
    aliases = config["containers.aliases"]
    claims: dict[str, list[Claim]] = {}
    for stem, image_name in catalogue.names.items():
        for claim in _claims(stem, image_name):
            if claim.name not in aliases:
                claims.setdefault(claim.name, []).append(claim)
    claims = {name: claimed for name, claimed in claims.items() if is_container_name(name)}
    for alias in filter(is_container_name, aliases):
        claims[alias] = _alias_claims(alias, aliases[alias], catalogue)
    return claims


def alias_stems(catalogue: Catalogue, config: Config) -> dict[str, str]:
    """Give the stems that an alias names, each with one such alias."""
    aliases = config["containers.aliases"]
    return {claim.stem: alias for alias in aliases for claim in _alias_claims(alias, aliases[alias], catalogue)}


def lasting_meanings(catalogue: Catalogue, config: Config) -> dict[str, Image]:
    """Give the names that mean the same image to every user, until the folder's entries change.

    A file that is no image may become one while the folder stays as it is: a download that is written in place, say.
    And an image that some users may not read is none to them. So a name is given only if it means the same image with
    all of these as without.
    """
    catalogue.look_into(catalogue.names)
    found = {}
    for name, claims in claims_by_name(catalogue, config).items():
        certain = [claim for claim in claims if _is_certain(catalogue.image(claim.stem))]
        answer = _decide(name, certain, catalogue, config)
        if isinstance(answer, ImageNotFound):
            continue
        if len(certain) == len(claims) or _contenders(claims, catalogue, config) == [answer.stem]:
            found[name] = answer
    return found


def nearest_names(name: str, catalogue: Catalogue, config: Config) -> list[str]:
    """Give at most three names that mean an image and look like this one, the likeliest first."""
    import difflib  # takes long to import, and only a miss needs it

    claims = claims_by_name(catalogue, config)
    short = {image_name.short_name for image_name in catalogue.names.values()}.union(config["containers.aliases"])
    # pytroch-24.01 is like no repository, but pytroch is: then pytorch's pins are what to look at.
    heads = {name} | {name[:end] for end, char in enumerate(name) if char == "-"}
    near = {
        found
        for head in sorted(heads, key=len)[-_HEADS_LIMIT:]
        for found in difflib.get_close_matches(head, sorted(short), n=NEAREST_LIMIT)
    }
    pool = [known for known in claims if known in near or any(known.startswith(f"{short}-") for short in near)]
    candidates = difflib.get_close_matches(name, sorted(pool or claims), n=2 * NEAREST_LIMIT)
    means = (candidate for candidate in candidates if _means_an_image(candidate, claims, catalogue, config))
    return [candidate for candidate, _ in zip(means, range(NEAREST_LIMIT))]


def _claims_on(name: str, catalogue: Catalogue, config: Config) -> list[Claim]:
    """Give the claims on one name: what `claims_by_name` has for it, without the rest."""
    value = config["containers.aliases"].get(name)
    if value is not None:
        return _alias_claims(name, value, catalogue)
    return [
        claim
        for stem, image_name in catalogue.names.items()
        if stem == name or name.startswith(image_name.short_name)
        for claim in _claims(stem, image_name)
        if claim.name == name
    ]


def _claims(stem: str, image: ImageName) -> Iterator[Claim]:
    """Give every claim that an image makes by its own name."""
    yield Claim(stem, (_STEM, 0), stem)
    short = image.short_name
    yield Claim(short, (_REPOSITORY, 0), stem)
    if image.tag:
        yield Claim(f"{short}-{image.tag}", (_EXACT_PIN, -len(short)), stem)
        for prefix in tag_prefixes(image.tag):
            yield Claim(f"{short}-{prefix}", (_PIN, -len(short)), stem)


def _alias_claims(alias: str, value: str, catalogue: Catalogue) -> list[Claim]:
    """Give the claims on an alias: of the file that it names, else of the image."""
    stem = value.removesuffix(SUFFIX)
    if stem in catalogue.names:
        return [Claim(alias, (_ALIAS, 0), stem)]
    try:
        wanted = ImageName.parse(value)
    except InvalidName:
        return []
    return [Claim(alias, (_ALIAS, 0), stem) for stem, image in catalogue.names.items() if image == wanted]


def _decide(name: str, claims: list[Claim], catalogue: Catalogue, config: Config) -> Image | ImageNotFound:
    """Give the image that wins among a name's claims, or say why none does."""
    if len(claims) == 1:  # as nearly every name of a large catalogue has
        image = catalogue.image(claims[0].stem)
        return image or _explain_miss(name, claims, catalogue, config)
    usable = [claim for claim in claims if catalogue.image(claim.stem)]
    images = [image for stem in _contenders(usable, catalogue, config) for image in [catalogue.image(stem)] if image]
    if not images:
        return _explain_miss(name, claims, catalogue, config)
    # A link and the file behind it are no contradiction.
    if len({image.path for image in images}) > 1:
        listed = [image.stem for image in images[:_LISTED_LIMIT]]
        more = f" or {len(images) - _LISTED_LIMIT} others" if len(images) > _LISTED_LIMIT else ""
        return ImageNotFound(
            f"{name!r} could be {' or '.join(listed)}{more}",
            hint="write one of these names, or have containers.prefer name the better namespace",
        )
    return images[0]


def _contenders(claims: list[Claim], catalogue: Catalogue, config: Config) -> list[str]:
    """Give the stems that win among claims on one name: one, unless nothing puts them in an order."""
    if len(claims) < 2:
        return [claim.stem for claim in claims]
    first = min(claim.step for claim in claims)
    names = {claim.stem: catalogue.names[claim.stem] for claim in claims if claim.step == first}
    for namespace in config["containers.prefer"]:
        inside = {stem: name for stem, name in names.items() if _is_in(name, namespace)}
        if inside:
            names = inside
            break
    repositories: dict[str, dict[str, ImageName]] = {}
    for stem, name in names.items():
        repositories.setdefault(name.full_repository, {})[stem] = name
    return [stem for names in repositories.values() for stem in _highest(names)]


def _highest(names: dict[str, ImageName]) -> list[str]:
    """Give the stems of one repository's images with the highest tag: several only if their digests differ."""
    if len(names) > 1:
        highest = max({name.tag for name in names.values()}, key=tag_order)
        names = {stem: name for stem, name in names.items() if name.tag == highest}
        # Of 24.01 and 24.01@sha256-..., a name without a digest means the one without.
        names = {stem: name for stem, name in names.items() if not name.digest} or names
    # Two files may spell the same image: the first one by name.
    return sorted({name: stem for stem, name in sorted(names.items(), reverse=True)}.values())


def _is_in(name: ImageName, namespace: str) -> bool:
    """Whether an image belongs to a namespace, e.g. ``nvcr.io/nvidia``, which may also be its whole repository."""
    wanted = namespace.rpartition("://")[2].strip("/")
    return f"{name.full_repository}/".startswith(f"{wanted}/")


def _is_certain(image: Image | None) -> bool:
    return image is not None and image.is_for_all


def _means_an_image(name: str, claims: dict[str, list[Claim]], catalogue: Catalogue, config: Config) -> bool:
    return not isinstance(_decide(name, claims[name], catalogue, config), ImageNotFound)


def _explain_miss(name: str, claims: Iterable[Claim], catalogue: Catalogue, config: Config) -> ImageNotFound:
    """Say why a name means no image."""
    for claim in claims:
        reject = catalogue.reject(claim.stem)
        if reject:
            return ImageNotFound(f"no image is called {name!r}: {reject.file} is not used: {reject.reason}", hint=_SEE)
    value = config["containers.aliases"].get(name)
    if value is None:
        return ImageNotFound(f"no image is called {name!r}", hint=_SEE)
    try:
        wanted = ImageName.parse(value)
        file_name = wanted.file_name
    except InvalidName as error:
        return ImageNotFound(f"the alias {name!r} is of no use: {error.message}", hint=error.hint)
    tag = f":{wanted.tag}" if wanted.tag else ""
    digest = f"@{wanted.digest}" if wanted.digest else ""
    uri = f"docker://{wanted.registry}#{wanted.repository}{tag}{digest}"
    return ImageNotFound(
        f"the alias {name!r} means {value}, which is not in {catalogue.folder}",
        hint=f"to import it, run: enroot import --output {catalogue.folder}/{file_name} '{uri}'",
    )
