"""What monitoring does on a node around a job, but for registering exporters: local files alone."""

from __future__ import annotations

import os
import time

from ...errors import DeadlineExceeded, SlurmFsxError
from ..metrics_file import HEALTH, SUFFIX
from .job_info import remove_job_info, sweep, write_job_info

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ...config.model import Config
    from ...job import Job
    from .gpus import Gpu


HEALTH_EVERY_S = 10.0
"""How often the node's health is written: scrapes come about as often, jobs may come in hundreds."""


def tell_start(job: Job, facts: Mapping[str, str], config: Config) -> None:
    """Say which job comes to this node; whatever of it fails, the rest is done.

    Raises:
        DeadlineExceeded: the time is up, and the rest was not done.
        OSError, SlurmFsxError: what failed first.
    """
    gpus: list[Gpu] = []
    if job.gpus:
        from .gpus import gpus_of_job

        gpus = gpus_of_job(job.gpus)
    _do_all(
        lambda: write_job_info(job, gpus, facts, config, time.time()),
        lambda: _map(job.id, [gpu.label for gpu in gpus], config),
        lambda: sweep(config, job.id),
        lambda: _tell_health(config),
    )


def tell_end(job: Job, config: Config) -> None:
    """Take a job's word back; as `tell_start` otherwise."""
    _do_all(
        lambda: remove_job_info(job.id, config),
        lambda: _map(job.id, [], config),
        lambda: sweep(config, ""),
        lambda: _tell_health(config),
    )


def forget_vanished(config: Config) -> None:
    """Take back the word of jobs that a reboot has ended; as `tell_start` otherwise."""
    # Until the first prolog after a boot it is missing, and who finds no folder of jobs takes none for gone.
    os.makedirs(f"{config['runtime_dir']}/jobs", 0o755, exist_ok=True)
    _do_all(lambda: sweep(config, ""), lambda: _map("", [], config))


def tell_failure(config: Config) -> None:
    """Write the node's health now: the next job, which would do it too, may be hours away.

    Raises:
        OSError, UntrustedFile: as for `publish_health`.
    """
    from .health_metrics import publish_health

    publish_health(config)


def _tell_health(config: Config) -> None:
    try:
        written_s = os.lstat(f"{config['monitoring.textfile_dir']}/{HEALTH}{SUFFIX}").st_mtime
    except OSError:
        written_s = 0.0
    # In whichever direction: the clock may have been set back.
    if abs(time.time() - written_s) >= HEALTH_EVERY_S:
        from .health_metrics import publish_health

        publish_health(config, wait=False)


def _map(job_id: str, gpus: list[str], config: Config) -> None:
    if config["monitoring.gpu_mapping_dir"]:
        from .gpu_mapping import map_gpus

        map_gpus(job_id, gpus, config)


def _do_all(*steps: Callable[[], object]) -> None:
    troubles: list[OSError | SlurmFsxError] = []
    for step in steps:
        try:
            step()
        except DeadlineExceeded:
            raise  # the time is up for the rest as well: nothing limits that any more
        except (OSError, SlurmFsxError) as error:
            troubles.append(error)
    if troubles:
        raise troubles[0]
