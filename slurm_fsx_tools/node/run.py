"""The outermost line of prolog and epilog: whatever happens inside, the job starts and the node stays."""

from __future__ import annotations

import os
import select
import sys
import time

from ..config.origin import config_path
from ..config.snapshot import load_snapshot
from ..deadline import Limit
from ..errors import DeadlineExceeded, SlurmFsxError
from ..job import Job
from ..plugins import load_plugins
from ..shared_fs import SharedFs
from ..signals import SIGKILL
from .journal import Journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..config.model import Config, Snapshot
    from ..plugins import PluginSet

EXIT_OK = 0
EXIT_FAILED_OPEN = 1
"""Of the child alone: something failed, and the job goes on. Python's own means the same."""
EXIT_DRAIN = 100
"""The one exit code that ``prolog.d/50-slurm-fsx`` turns into a failure; Python's own are 1, 2 and above 120."""


class Context:
    """What a prolog or epilog works with."""

    def __init__(self, job: Job, config: Config, journal: Journal, plugins: PluginSet) -> None:
        self.job = job
        self.config = config
        self.journal = journal
        self.plugins = plugins
        self.shared_fs = SharedFs(config["fsx.root"], config["fsx.timeout"])

    @property
    def env_path(self) -> str:
        """The job's environment file."""
        return job_file(self.config, self.job.id, ".env")


def job_file(config: Config, job_id: str, suffix: str) -> str:
    """Give the path of a job's file in the runtime folder."""
    return f"{config['runtime_dir']}/jobs/{job_id}{suffix}"


def run(act: str, body: Callable[[Context], int], environ: Mapping[str, str], run_dir: str = "") -> int:
    """Run a prolog or epilog under its deadline, and never let it fail.

    The body runs in a child, so that neither a crash, nor a plugin that ignores its time, nor a system call that never
    returns keeps the job from starting.

    Args:
        act: ``prolog`` or ``epilog``.
        body: Does the work; gives EXIT_OK or EXIT_DRAIN.
        environ: The environment that slurmd passed.
        run_dir: The folder of the compiled configuration, as for `load_snapshot`.

    Returns:
        EXIT_OK, or EXIT_DRAIN where a site policy says so.
    """
    journal = Journal(act)
    start_s = time.monotonic()
    try:
        os.umask(0o022)
        job = Job.from_environment(environ)
        journal = Journal(act, job.id)
        failures: list[tuple[str, BaseException]] = []
        snapshot = load_snapshot(config_path(environ), run_dir, on_failure=lambda *failure: failures.append(failure))
        runtime_dir = snapshot.config["runtime_dir"]
        for folder in (runtime_dir, f"{runtime_dir}/jobs"):
            _ensure_folder(folder, journal)
        journal = Journal(act, job.id, job_file(snapshot.config, job.id, ".log"))
        for what, error in failures:
            journal.failure(what, error)
        child = os.fork()
        if child == 0:
            os._exit(_run_body(body, job, snapshot, journal))
        from .. import counters  # while the child works

        code = _await(child, snapshot.config["prolog.deadline"], journal)
        failed = code == EXIT_FAILED_OPEN
        duration_s = time.monotonic() - start_s
        try:
            with Limit(counters.LOCK_S, "counting"):
                counters.count(snapshot.config["runtime_dir"], act, duration_s, failed)
        except (OSError, DeadlineExceeded) as error:
            journal.warning(f"this run is not counted: {error}")
        if failed:
            _tell_failure(act, job, snapshot)
        return EXIT_DRAIN if code == EXIT_DRAIN else EXIT_OK
    except Exception as error:
        journal.failure(act, error)
        return EXIT_OK
    finally:
        if act == "epilog":
            journal.end()  # by the last one who could write to it: what the child says, or ends of, comes before


def _run_body(
    body: Callable[[Context], int],
    job: Job,
    snapshot: Snapshot,
    journal: Journal,
) -> int:
    try:
        _let_go_of_output()
        plugins = load_plugins(snapshot, journal.failure)
        code = body(Context(job, snapshot.config, journal, plugins))
    except BaseException as error:
        journal.failure("all that was left", error)
        code = EXIT_OK
    return EXIT_FAILED_OPEN if code == EXIT_OK and journal.failures else code


def _tell_failure(act: str, job: Job, snapshot: Snapshot) -> None:
    """Let plugins hear at once that this run failed open, in a process that nobody waits for."""
    if os.fork():
        return
    # In syslog alone: the job, and its log, may be gone before a plugin has failed here.
    journal = Journal(act, job.id)

    def tell(context: Context) -> int:
        context.plugins.call_each("slurm_fsx_failed_open", act=act, job=job, config=snapshot.config)
        return EXIT_OK

    try:
        os.setsid()  # slurmd ends a prolog's whole process group
        _let_go_of_output()
        child = os.fork()
        if child == 0:
            os._exit(_run_body(tell, job, snapshot, journal))
        # Nobody waits, but one that never ended would be joined by one more with each job.
        _await(child, snapshot.config["prolog.deadline"], journal)
    finally:
        os._exit(EXIT_OK)


def _let_go_of_output() -> None:
    """Have nothing of slurmd's open, which reads a prolog's output to its end, whoever was left behind with it."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)


def _ensure_folder(path: str, journal: Journal) -> None:
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        pass
    except OSError as error:
        journal.failure(f"making {path}", error)


def _await(child: int, deadline_s: float, journal: Journal) -> int:
    """Wait for the child, but no longer than the deadline; EXIT_FAILED_OPEN stands for any code not ours."""
    if not _ends_within(child, deadline_s):
        os.kill(child, SIGKILL)
        os.waitpid(child, os.WNOHANG)  # in a hung kernel call it does not die: leave it behind
        journal.failure("what had not ended", SlurmFsxError(f"prolog.deadline is {deadline_s:g} s"))
        return EXIT_FAILED_OPEN
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        journal.failure("all of it", SlurmFsxError(f"ended by signal {os.WTERMSIG(status)}"))
        return EXIT_FAILED_OPEN
    code = os.WEXITSTATUS(status)
    return code if code in (EXIT_OK, EXIT_DRAIN) else EXIT_FAILED_OPEN


def _ends_within(child: int, seconds: float) -> bool:
    """Whether a child process ends in time."""
    if hasattr(os, "pidfd_open"):
        try:
            pidfd = os.pidfd_open(child)
        except OSError:  # an old kernel, or a filter
            pass
        else:
            try:
                return bool(select.select([pidfd], [], [], seconds)[0])
            finally:
                os.close(pidfd)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return True
        time.sleep(0.002)
    return False


def exit_with(code: int) -> None:
    """End the process without Python's tear-down, which takes longer than an epilog."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
