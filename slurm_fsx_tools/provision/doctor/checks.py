"""All checks, in the order in which they are told, and the symptoms that lead to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ...errors import InvalidName
from . import (
    basics,
    containers_runtime,
    fsx,
    images,
    kernel,
    monitoring,
    nccl,
    node,
    nodes,
    plugstack,
    slurm,
    trust,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .findings import Check, Probe

CHECKS: tuple[Check, ...] = (
    *fsx.CHECKS,
    *slurm.CHECKS,
    *plugstack.CHECKS,
    *containers_runtime.CHECKS,
    *kernel.CHECKS,
    *images.CHECKS,
    *nccl.CHECKS,
    *monitoring.CHECKS,
    *trust.CHECKS,
    *node.CHECKS,
)
_SUBJECTS = (
    basics,
    fsx,
    slurm,
    plugstack,
    containers_runtime,
    kernel,
    images,
    nccl,
    monitoring,
    trust,
    node,
    nodes,
)
PROBES: dict[str, Probe] = {probe.name: probe for subject in _SUBJECTS for probe in subject.PROBES}


class Symptom(NamedTuple):
    """What people come with, and the checks that find its causes."""

    name: str
    checks: tuple[str, ...]


SYMPTOMS = (
    Symptom(
        "NCCL is not found in a job, or it runs on sockets",
        (
            *("nccl-installed", "nccl-files", "prolog-scripts", "prolog-flags", "plugstack", "plugin-build"),
            *("prolog-duration", "config", "fsx-answers"),
        ),
    ),
    Symptom(
        "A container is not found by its name",
        ("images", "image-names", "image-imports", "plugstack", "plugin-build", "fsx-mounted"),
    ),
    Symptom(
        "A container does not start, or starts slowly",
        (
            *("enroot", "enroot-paths", "pyxis", "container-scope", "task-prolog", "fuse", "overlay"),
            *("user-namespaces", "left-overs", "local-room"),
        ),
    ),
    Symptom("A download of an image failed", ("image-imports", "fsx-space", "fsx-folders", "local-room", "locks")),
    Symptom("/fsx is not mounted, or hangs", ("fsx-mounted", "fsx-answers", "fsx-space", "fsx-flock")),
    Symptom("A session by SSH has no NCCL", ("nccl-reach", "nccl-installed", "fsx-mounted")),
    Symptom(
        "Nodes drain, or jobs wait in CONFIGURING",
        (
            "slurm-nodes",
            "prolog-times",
            "prolog-scripts",
            "prolog-duration",
            "prolog-trend",
            "container-scope",
            "enroot",
        ),
    ),
    Symptom("A node is missing in Prometheus", ("exporters", "targets", "targets-synced", "prometheus")),
)


def choose(names: Sequence[str]) -> list[Check]:
    """Give the checks of these names, all without any.

    Raises:
        InvalidName: there is no such check.
    """
    known = {check.name: check for check in CHECKS}
    strange = [name for name in names if name not in known]
    if strange:
        raise InvalidName(f"there is no check {strange[0]!r}", hint=f"choose from: {', '.join(known)}")
    return [check for check in CHECKS if not names or check.name in names]
