"""Pulls an image into the cache of the user of this process, or waits for the node that does."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ...errors import RegistryBusy, RegistryUnavailable
from ...programs import find_program
from ..imports import skopeo as skopeo_importer
from ..imports.budget import RegistryBudget
from ..imports.folders import make_folders
from ..imports.importing import import_image, registry_client
from ..imports.options import ImportOptions
from ..imports.state import read_states
from ..names import SUFFIX
from ..store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...config.model import Config
    from ...shared_lock import Owner
    from ..imports.state import Progress
    from ..names import ImageName
    from .own_cache import OwnCache

PRIVATE = 0o600
"""Images may be private: only their owner reads them."""


def pull(name: ImageName, cache: OwnCache, config: Config, job_id: str, say: Callable[[str], None]) -> str:
    """Give the path of an image in the cache, pulled by one node of the cluster.

    Args:
        name: The image.
        cache: It was checked.
        config: How images are imported.
        job_id: Whose nodes take a name to mean the same; empty outside jobs.
        say: Told what goes on.

    Raises:
        SlurmFsxError: the image cannot be had, with the reason.
        OSError: the cache cannot be written to.
    """
    options = options_for(name, config)

    def bring() -> str:
        known = cache.last_known(name)
        make_folders(cache.store)
        budget = RegistryBudget(
            cache.store, name.registry, options.registry_slots, options.stop, options.other_stores, options.clock
        )
        try:
            digest = _ask_digest(name, options, budget, say, is_known=bool(known))
        except RegistryUnavailable as error:
            if not known:
                raise
            # A registry that is away, or has had enough of us, stops no job whose image is here.
            say(f"{error.message}: taking what {name} meant when it last answered")
            return known
        file = f"{digest.replace(':', '-')}.{options.wanted_architecture}{SUFFIX}"
        import_image(name._replace(digest=digest), cache.store, options, _reporter(say), file)
        return file

    return cache.fetch(name, job_id, bring, say, lambda owner: _progress_of(owner, cache))


def options_for(name: ImageName, config: Config) -> ImportOptions:
    """Give how an image is imported into a user's cache."""
    return ImportOptions(
        importer=choose_for_users(),
        architecture=config["containers.architecture"],
        insecure_http=name.registry in config["containers.http_registries"],
        scratch=config["containers.scratch"],
        registry_slots=config["containers.registry_slots"],
        mode=PRIVATE,
        other_stores=(Store(config.below_fsx("containers")),),
    )


def choose_for_users() -> str:
    """Give what an ordinary user can import with.

    enroot's helpers do it with file capabilities, which come with a package of their own (``enroot+caps``).
    """
    helper = find_program("enroot-aufs2ovlfs")
    if os.geteuid() == 0 or helper is None or skopeo_importer.missing():
        return "auto"
    try:
        os.getxattr(helper, "security.capability")
    except OSError:
        return skopeo_importer.NAME
    return "auto"


def _ask_digest(
    name: ImageName, options: ImportOptions, budget: RegistryBudget, say: Callable[[str], None], is_known: bool
) -> str:
    """Ask for a digest, leaving the registry alone for as long as it wants.

    Raises:
        RegistryUnavailable: it did not answer; where the image is known, the first time.
    """
    attempt = 0
    while True:
        attempt += 1
        left_s = budget.paused_until_s() - options.clock()
        if is_known and left_s > 0:
            raise RegistryBusy(f"{name.registry} wants to be left alone for {left_s:.0f} s", hint="try again later")
        budget.wait_for_pause(say)
        try:
            return registry_client(name, options).digest(name)
        except RegistryUnavailable as error:
            wait_s = max(options.retries.wait_s(attempt), error.retry_after_s or 0.0)
            if error.retry_after_s is not None or isinstance(error, RegistryBusy):
                budget.pause(wait_s)
            if is_known or attempt >= options.retries.attempts:
                raise
            say(f"{error.message}: trying again in {wait_s:.0f} s")
            options.stop.sleep(wait_s)


def _reporter(say: Callable[[str], None]) -> Callable[[Progress], None]:
    """Say each new phase, and what an importer has to say, once."""
    last = ""

    def report(progress: Progress) -> None:
        nonlocal last
        words = f"{progress.phase}: {progress.text}" if progress.text else progress.phase
        if words != last:
            last = words
            say(words)

    return report


def _progress_of(owner: Owner, cache: OwnCache) -> str:
    """Say how far the import of a process has come."""
    for state in read_states(cache.store):
        if (state.host, state.pid) == owner[:2] and state.is_under_way:
            of = f" {state.done_bytes >> 20} of {state.total_bytes >> 20} MiB" if state.total_bytes else ""
            return f"{state.phase}{of}"
    return ""
