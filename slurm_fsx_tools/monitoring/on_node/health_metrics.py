"""What this software says of itself on a node: ``slurm_fsx_health.prom``."""

from __future__ import annotations

import os

from ...counters import BUCKETS_S, NOTHING, Tally, lock, read_counts, read_misses
from ..metrics_file import COUNTER, HEALTH, HISTOGRAM, Family, Sample, write_metrics

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ...config.model import Config

ACTS = ("prolog", "epilog")


def health_metrics(tallies: Mapping[str, Tally], misses: int) -> list[Family]:
    """Give the metrics of what was counted; what has not happened yet is 0, so that its first time is an increase."""
    failed = [Sample({"act": act}, tallies.get(act, NOTHING).failed_open) for act in ACTS]
    return [
        *(
            Family(
                f"slurm_fsx_{act}_duration_seconds",
                HISTOGRAM,
                f"How long this software's {act} took, without the start of Python.",
                list(_histogram(tallies.get(act, NOTHING))),
            )
            for act in ACTS
        ),
        Family(
            "slurm_fsx_fail_open_total",
            COUNTER,
            "Prologs and epilogs in which something of this software failed and the job went on without it.",
            failed,
        ),
        Family(
            "slurm_fsx_resolution_misses_total",
            COUNTER,
            "Steps that named a container for which no image was found.",
            [Sample({}, misses)],
        ),
    ]


def publish_health(config: Config, wait: bool = True) -> None:
    """Write what has been counted since the node booted. One process at a time, so that no count ever goes back.

    Args:
        config: Says where.
        wait: Whether to wait for another process that does this now, rather than to leave it to that one.

    Raises:
        OSError: the counters cannot be read, or the file not written.
        UntrustedFile: the folder is a link.
    """
    runtime_dir = config["runtime_dir"]
    try:
        turn = lock(f"{runtime_dir}/{HEALTH}.lock", wait)
    except BlockingIOError:
        return
    try:
        families = health_metrics(read_counts(runtime_dir), read_misses(runtime_dir))
        write_metrics(config["monitoring.textfile_dir"], HEALTH, families, config["monitoring.label_limit"])
    finally:
        os.close(turn)


def _histogram(tally: Tally) -> Iterator[Sample]:
    total = 0
    for bound, number in zip((*(f"{bound:g}" for bound in BUCKETS_S), "+Inf"), tally.buckets):
        total += number
        yield Sample({"le": bound}, total, "_bucket")
    yield Sample({}, tally.total_us / 1e6, "_sum")
    yield Sample({}, total, "_count")
