"""Every hook: the table of contents of what a site can change.

A plugin implements any of these with ``from slurm_fsx_tools import hookimpl``, and takes only the arguments it needs.
Built-in behaviour is plugins of the same hooks (``containers.plugin``, ``nccl.plugin``, ``monitoring.plugin``); where a
site and a built-in disagree, the site wins. A plugin that raises or outlasts its time is named in the log and skipped.

Prolog and epilog hooks run as root on the compute node, and a look at a hung ``/fsx`` never returns: take it through
``shared_fs.look``. They must not call Slurm commands (Slurm Prolog and Epilog Guide).
"""

from __future__ import annotations

import pluggy

TYPE_CHECKING = False  # hot module: typing is not imported for this
if TYPE_CHECKING:
    from .config.model import Config
    from .health import Health
    from .job import Job, Node
    from .jobenv import JobEnv
    from .monitoring.exporters import Exporter
    from .shared_fs import SharedFs

PROJECT = "slurm_fsx"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec(firstresult=True)
def slurm_fsx_resolve_container(name: str, partition: str, config: Config) -> str | None:
    """Choose the image for ``--container-name=NAME``.

    Runs at submission, as the user who submits, within ``prolog.plugin_timeout``. The first answer wins; site plugins
    are asked before the built-in catalogue.

    Args:
        name: What the user wrote, e.g. ``pytorch``, without Pyxis's flags; never trusted.
        partition: The job's partition, or an empty string where none was given.
        config: The node's configuration.

    Returns:
        The absolute path of a squashfs image, or None to leave the choice to the next plugin.
    """


@hookspec
def slurm_fsx_job_env(job: Job, env: JobEnv, config: Config, shared_fs: SharedFs) -> None:
    """Write into the environment that every task of a job gets, in containers and out.

    Runs in the prolog, as root, once per job and node, within ``prolog.plugin_timeout``. Built-ins write first, so a
    site plugin has the last word.

    Args:
        job: The job that is about to start.
        env: The operations so far; add to them with ``env.default``, ``env.set``, ``env.prepend`` and so on.
        config: The node's configuration.
        shared_fs: How to look at files below ``fsx.root``.

    Returns:
        None; the result is what was written into `env`.
    """


@hookspec
def slurm_fsx_exporters(node: Node, config: Config) -> list[Exporter] | None:
    """List what Prometheus may scrape on a node; each is registered once its port answers, under the node's name.

    Runs in the prolog and at node set-up, as root, within ``prolog.plugin_timeout``. All answers are taken; where two
    name the same exporter, the site's is kept.

    Args:
        node: The node that this runs on.
        config: The node's configuration.

    Returns:
        The exporters, or None where this plugin knows of none.
    """


@hookspec
def slurm_fsx_prolog(job: Job, env: JobEnv, exporters: list[Exporter], config: Config, shared_fs: SharedFs) -> None:
    """Act before a job starts on a node.

    Runs in the prolog, as root, after the job's environment is complete and written, within ``prolog.plugin_timeout``.

    Args:
        job: The job that is about to start.
        env: The operations that its tasks will get; changing them here has no effect.
        exporters: What this node exports, as ``slurm_fsx_exporters`` listed it.
        config: The node's configuration.
        shared_fs: How to look at files below ``fsx.root``.

    Returns:
        None; an exception is logged and the job starts.
    """


@hookspec
def slurm_fsx_epilog(job: Job, config: Config, shared_fs: SharedFs) -> None:
    """Act after a job has ended on a node.

    Runs in the epilog, as root, within ``prolog.plugin_timeout``. Slurm may run an epilog twice, and without a prolog
    before it. Of the job, only what Slurm tells an epilog is known: no container, no options.

    Args:
        job: The job that has ended.
        config: The node's configuration.
        shared_fs: How to look at files below ``fsx.root``.

    Returns:
        None; an exception is logged and the node stays in service.
    """


@hookspec
def slurm_fsx_failed_open(act: str, job: Job, config: Config) -> None:
    """Act when something failed in a prolog or epilog and the job went on without it.

    Runs after that prolog or epilog, as root, in a process that nobody waits for, within
    ``prolog.plugin_timeout``. The log has what failed.

    Args:
        act: ``prolog`` or ``epilog``.
        job: The job.
        config: The node's configuration.

    Returns:
        None; an exception is logged.
    """


@hookspec
def slurm_fsx_node_health(job: Job, config: Config, shared_fs: SharedFs) -> Health | None:
    """Judge whether this node is fit to run a job.

    Runs in the prolog, as root, before anything else, within ``prolog.plugin_timeout``. The gravest answer counts. A
    ``drain`` takes the node out of service and requeues the job; this is the only way in which this software ever
    does. A plugin that fails or is too slow has no say.

    Args:
        job: The job that is about to start.
        config: The node's configuration.
        shared_fs: How to look at files below ``fsx.root``.

    Returns:
        ``Health.ok()``, ``Health.warn(reason)``, ``Health.drain(reason)``, or None for no opinion.
    """
