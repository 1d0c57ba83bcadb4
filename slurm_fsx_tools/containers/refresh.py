"""Telling submissions what has changed in the catalogue: who brings or removes images calls this when all is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..plugins import load_plugins
from .index import update_index

if TYPE_CHECKING:
    from ..config.model import Snapshot
    from ..plugins import Failure, PluginSet
    from .index import Index

RESOLVE_HOOK = "slurm_fsx_resolve_container"
BUILTIN = "containers"
"""Our own plugin that answers it."""


class Refreshed(NamedTuple):
    """An index that was written, and which site plugins have a say in names."""

    written: Index
    sites: list[str]


def refresh_index(snapshot: Snapshot, on_failure: Failure) -> Refreshed:
    """Write the catalogue's index, as the plugins of this node allow it to be used; as root.

    Takes two seconds more where an image has just come or gone, so once for a batch, not for each image. Only what
    stands in the folder counts, not what was passed on: two that do this at the same time do no harm.

    Args:
        snapshot: The configuration.
        on_failure: Told of each plugin that could not be loaded: submissions ask Python then, too.

    Raises:
        SharedFsUnavailable: the folder cannot be listed.
        UntrustedFile: somebody else could write where the index is kept.
        OSError: it cannot be written.
    """
    failed: list[str] = []

    def note(what: str, error: BaseException) -> None:
        failed.append(what)
        on_failure(what, error)

    sites = site_resolvers(load_plugins(snapshot, note))
    blocked = BUILTIN in snapshot.config["prolog.block"]
    return Refreshed(update_index(snapshot.config, must_ask=bool(sites or failed or blocked)), sites)


def site_resolvers(plugins: PluginSet) -> list[str]:
    """Name the site plugins that have a say in what a name means."""
    return [impl.plugin for impl in plugins.implementations(RESOLVE_HOOK) if impl.plugin != BUILTIN]
