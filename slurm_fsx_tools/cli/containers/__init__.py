"""``slurm-fsx containers``: images in the catalogue, what a container's name means, and containers on this node."""

from __future__ import annotations

import click

from ..lazy import Entry, LazyGroup

ENTRIES = {
    "index": Entry(f"{__package__}.show", "index", "Write the index, by which submissions find an image at once."),
    "list": Entry(f"{__package__}.show", "list_images", "List the images, and what each short name means now."),
    "resolve": Entry(f"{__package__}.show", "resolve", "Print the path of the image that a name means."),
    "stage": Entry(f"{__package__}.stage", "stage", "Copy images to this node's own disk, or see what is there."),
}


@click.group(cls=LazyGroup, entries=ENTRIES)
def containers() -> None:
    """Bring images into the catalogue, see them, and care for them."""
