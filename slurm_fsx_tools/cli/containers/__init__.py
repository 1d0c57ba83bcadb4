"""``slurm-fsx containers``: images in the catalogue, what a container's name means, and containers on this node."""

from __future__ import annotations

import click

from ..lazy import Entry, LazyGroup

ENTRIES = {
    "cleanup": Entry(f"{__package__}.node", "cleanup", "Remove what containers left on this node and no job uses."),
    "index": Entry(f"{__package__}.show", "index", "Write the index, by which submissions find an image at once."),
    "list": Entry(f"{__package__}.show", "list_images", "List the images, and what each short name means now."),
    "resolve": Entry(f"{__package__}.show", "resolve", "Print the path of the image that a name means."),
}


@click.group(cls=LazyGroup, entries=ENTRIES)
def containers() -> None:
    """Bring images into the catalogue, see them, and care for them."""
