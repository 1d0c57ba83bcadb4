"""What a user's ``--nccl=`` means: a profile, a version that is installed, or nothing at all."""

from __future__ import annotations

from ..values import NamedTuple
from .manifest import is_version_id
from .profiles import profile_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..config.model import Config

OFF = "off"
"""What a user writes behind ``--nccl=`` to get nothing."""


class Choice(NamedTuple):
    """What a job is to get."""

    profile: str
    version: str = ""
    """A version's id; empty for the current one. Whether it is installed is still to be seen."""

    note: str = ""
    """Why it is not what the user wrote; empty where it is."""


def choose(wanted: str, config: Config) -> Choice:
    """Say what a user's word means; what it means to nobody is the default, with a note.

    Args:
        wanted: What stands behind ``--nccl=``: the user's own words, or empty.
        config: Which profiles there are, and which one is the default.
    """
    default: str = config["nccl.profile"]
    if not wanted:
        return Choice(default)
    if wanted in profile_names(config):
        return Choice(wanted)
    if is_version_id(wanted):
        return Choice(default, version=wanted)
    return Choice(default, note=unknown(wanted, config))


def unknown(wanted: str, config: Config) -> str:
    """Say that nothing is called what a user wrote, and what the job gets."""
    known = ", ".join((OFF, *profile_names(config)))
    versions = f"a version in {config.below_fsx('nccl/versions')}"
    return f"--nccl={wanted[:100]!r} is neither {versions} nor one of {known}: the job gets the default"
