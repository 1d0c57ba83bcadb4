"""The named sets of NCCL and EFA variables that jobs get: built in, and a site's own from its configuration."""

from __future__ import annotations

from ..config.model import PROFILES, Config
from ..values import NamedTuple
from .conditions import Facts
from .variables import BY_NAME, NETWORK, VARIABLES


class Given(NamedTuple):
    """A variable that a profile gives to jobs, where the user has not set it."""

    name: str
    value: str
    purpose: str
    source: str
    caveat: str = ""
    """What a reader with current software should know before relying on it."""


class Profile(NamedTuple):
    """A set of variables; the library path belongs to every one."""

    name: str
    summary: str
    variables: tuple[Given, ...]
    renames: bool = False
    """Whether what a setup script exports by an old name goes to jobs by today's."""


def _documented(name: str, value: str) -> Given:
    variable = BY_NAME[name]
    return Given(name, value, variable.purpose, variable.source, variable.advice)


DOCUMENTED = Profile(
    "documented",
    "The set that this product documents; it suits any version of the AWS OFI NCCL plugin, and tunes none.",
    (
        _documented("FI_PROVIDER", "efa"),
        _documented("FI_EFA_USE_DEVICE_RDMA", "1"),
        _documented("NCCL_PROTO", "simple"),
        _documented("NCCL_DEBUG", "INFO"),
        _documented("NCCL_ALGO", "Ring"),
        _documented("NCCL_MIN_NRINGS", "8"),
    ),
)
MINIMAL = Profile("minimal", "The library path and nothing else.", ())

AUTO_SUMMARY = "What the installed versions need on this instance type; for current ones, almost nothing."

DOCUMENTED_VALUES = {given.name: given.value for given in DOCUMENTED.variables}

FAIL_FAST = Given(
    "NCCL_NET",
    NETWORK,
    "a job that does not get EFA stops instead of running on sockets (nccl.fail_fast)",
    BY_NAME["NCCL_NET"].source,
    "a job on nodes without EFA stops, too",
)


def profile_names(config: Config) -> tuple[str, ...]:
    """Name every profile there is, the built-in ones first."""
    return (*PROFILES, *config["nccl.profiles"])


def select_profile(name: str, config: Config, facts: Facts = Facts()) -> Profile:  # noqa: B008  # never changed
    """Give the profile of a name; the documented one where there is none, so that a typo changes no job's speed."""
    if name in config["nccl.profiles"]:
        profile = _site_profile(name, config, facts)
    elif name == "auto":
        profile = Profile("auto", AUTO_SUMMARY, tuple(_needed(facts)), renames=True)
    else:
        profile = MINIMAL if name == "minimal" else DOCUMENTED
    if config["nccl.fail_fast"]:
        others = tuple(given for given in profile.variables if given.name != FAIL_FAST.name)
        profile = profile._replace(variables=(*others, FAIL_FAST))
    return profile


def _needed(facts: Facts) -> list[Given]:
    return [
        Given(variable.name, need.value, variable.purpose, need.source, f"{need.why} ({need.when})")
        for variable in VARIABLES
        for need in variable.needs
        if need.when.holds(facts)
    ]


def _site_profile(name: str, config: Config, facts: Facts) -> Profile:
    variables = []
    for variable, value in config["nccl.profiles"][name].items():
        known = BY_NAME.get(variable)
        harm = known.harm(value, facts) if known else None
        caveat = f"{harm.why} ({harm.source})" if harm else known.advice if known else ""
        purpose = known.purpose if known else "the site's configuration sets it"
        variables.append(Given(variable, value, purpose, f"nccl.profiles.{name} in {config.path}", caveat))
    return Profile(name, f"This site's own, from {config.path}.", tuple(variables))
