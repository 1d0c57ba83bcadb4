"""``slurm-fsx containers``: images in the catalogue, what a container's name means, and containers on this node."""

from __future__ import annotations

import click

from ..lazy import Entry, LazyGroup

ENTRIES = {
    "cleanup": Entry(f"{__package__}.node", "cleanup", "Remove what containers left on this node and no job uses."),
    "import": Entry(f"{__package__}.bring", "import_images", "Bring images into the catalogue."),
    "index": Entry(f"{__package__}.show", "index", "Write the index, by which submissions find an image at once."),
    "list": Entry(f"{__package__}.show", "list_images", "List the images, and what each short name means now."),
    "prune": Entry(
        f"{__package__}.care", "prune", "Let go of images that are not needed any more; first only say which."
    ),
    "remove": Entry(f"{__package__}.care", "remove", "Remove images, with their records."),
    "resolve": Entry(f"{__package__}.show", "resolve", "Print the path of the image that a name means."),
    "stage": Entry(f"{__package__}.stage", "stage", "Copy images to this node's own disk, or see what is there."),
    "status": Entry(f"{__package__}.bring", "status", "Show how far imports are, and how the last ones ended."),
    "sync": Entry(f"{__package__}.bring", "sync", "Bring every image of a list into the catalogue."),
    "verify": Entry(f"{__package__}.care", "verify", "See whether images are whole, and as they were imported."),
}


@click.group(cls=LazyGroup, entries=ENTRIES)
def containers() -> None:
    """Bring images into the catalogue, see them, and care for them."""
