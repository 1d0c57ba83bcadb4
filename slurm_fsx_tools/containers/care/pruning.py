"""Which images a store can do without: the choice alone, nothing is removed here."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ...uses import UNUSED
from ..names import SUFFIX, tag_order
from ..resolution import alias_stems
from .removing import links_to

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...config.model import Config
    from ...uses import Activity, Use
    from ..catalogue import Catalogue, Image
    from ..records import Record

DAY_S = 24 * 3600.0


class Policy(NamedTuple):
    """What an admin wants to keep."""

    keep: int
    """How many images of each repository, the newest by version."""

    older_than_days: float
    """Images younger than this stay, and those that a job has started from since."""


class Verdict(NamedTuple):
    """What becomes of an image."""

    image: Image
    goes: bool
    reason: str


def judge(
    catalogue: Catalogue,
    config: Config,
    policy: Policy,
    records: Mapping[str, Record],
    uses: Mapping[str, Use],
    activity: Activity,
    now_s: float,
) -> list[Verdict]:
    """Say of each image whether it goes, and why.

    Args:
        catalogue: The images, looked into; what is no image is left alone.
        config: Images that an alias names stay.
        policy: What else stays.
        records: By file, for images that were imported: their age counts from the import.
        uses: By file, as read before Slurm was asked.
        activity: What Slurm says.
        now_s: Seconds since 1970.

    Returns:
        In the order of repositories, the newest version first.
    """
    aliases = alias_stems(catalogue, config)
    links = links_to(catalogue)
    repositories: dict[str, list[Image]] = {}
    for image in catalogue.images:
        repositories.setdefault(image.name.full_repository, []).append(image)
    verdicts = []
    for repository in sorted(repositories):
        ordered = sorted(
            repositories[repository], key=lambda image: (tag_order(image.name.tag), image.stem), reverse=True
        )
        files = [image for image in ordered if not catalogue.is_link(image.stem)]
        newest = {image.stem for image in files[: policy.keep]}
        for image in ordered:
            file = image.stem + SUFFIX
            use = uses.get(file, UNUSED)
            jobs = activity.running(use)
            record = records.get(file)
            begun_s = record.imported_s if record else image.modified_s
            age_days = (now_s - max(begun_s, use.last_s)) / DAY_S
            if catalogue.is_link(image.stem):
                reason = f"is a link to {image.path[len(catalogue.folder) + 1 :]}"
            elif image.stem in aliases:
                reason = f"the alias {aliases[image.stem]!r} names it"
            elif file in links:
                reason = f"{links[file][0]} is a link to it"
            elif jobs:
                job = activity.words(jobs[0])
                reason = f"job {job} uses it" if len(jobs) == 1 else f"{len(jobs)} jobs use it, {job} is one"
            elif image.stem in newest:
                reason = f"is among the newest {policy.keep} of {repository}"
            elif age_days < policy.older_than_days:
                done = "was used" if use.last_s > begun_s else "came" if record else "was changed"
                reason = f"{done} {age_days:.0f} days ago"
            else:
                since = f"not used for {age_days:.0f} days" if use.last_s > begun_s else f"{age_days:.0f} days old"
                verdicts.append(Verdict(image, True, since + _newer(policy.keep)))
                continue
            verdicts.append(Verdict(image, False, reason))
    return verdicts


def _newer(number: int) -> str:
    return f", and {number} newer {'is' if number == 1 else 'are'} there" if number else ""
