"""The named sets of NCCL and EFA variables that jobs get; each variable with what it is for, and its source."""

from __future__ import annotations

from typing import NamedTuple

_NCCL = "https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html"
_NCCL_CHANNELS = "https://github.com/NVIDIA/nccl/blob/master/src/graph/connect.cc"
_EFA = "https://github.com/aws/aws-ofi-nccl/blob/master/doc/efa-env-var.md"

TUNER_THREAD = "https://github.com/aws/aws-ofi-nccl/issues/982"
"""Where it is said that a chosen algorithm or protocol keeps AWS's tuner from loading."""

STOPS_TUNER = ("NCCL_ALGO", "NCCL_PROTO")
"""Variables that keep AWS's tuner, part of the plugin from 1.16 on, from choosing algorithm and protocol."""


class Variable(NamedTuple):
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
    variables: tuple[Variable, ...]


DOCUMENTED = Profile(
    "documented",
    "The set that this product documents; it suits any version of the AWS OFI NCCL plugin, and tunes none.",
    (
        Variable(
            "FI_PROVIDER",
            "efa",
            "lets libfabric use EFA and nothing else",
            _EFA,
            "needed up to aws-ofi-nccl 1.5; later ones choose it themselves",
        ),
        Variable(
            "FI_EFA_USE_DEVICE_RDMA",
            "1",
            "lets EFA read and write GPU memory directly",
            _EFA,
            "not needed from libfabric 1.18 with aws-ofi-nccl 1.7 on; harmless there",
        ),
        Variable(
            "NCCL_PROTO",
            "simple",
            "keeps NCCL to the protocol that needs no ordered delivery, which EFA does not promise",
            _EFA,
            "needed up to aws-ofi-nccl 1.5; later ones choose it themselves, and it stops their tuner",
        ),
        Variable(
            "NCCL_DEBUG",
            "INFO",
            "lets each rank say which network and plugin it uses",
            f"{_NCCL}#nccl-debug",
            "NVIDIA advises against keeping debug variables set in production",
        ),
        Variable(
            "NCCL_ALGO",
            "Ring",
            "keeps collectives to rings",
            f"{_NCCL}#nccl-algo",
            "stops the tuner of aws-ofi-nccl, and NCCL's own choice by message size",
        ),
        Variable(
            "NCCL_MIN_NRINGS",
            "8",
            "asks for at least eight rings",
            _NCCL_CHANNELS,
            "an old name of NCCL_MIN_NCHANNELS, which NCCL still reads; AWS recommends to leave the number to NCCL",
        ),
    ),
)

PROFILES = {profile.name: profile for profile in (DOCUMENTED,)}

DOCUMENTED_VALUES = {variable.name: variable.value for variable in DOCUMENTED.variables}


def select_profile(name: str) -> Profile:
    """Give the profile of a name; the documented one where there is none, so that a typo changes no job's speed."""
    return PROFILES.get(name, DOCUMENTED)
