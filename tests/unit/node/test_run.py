from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from slurm_fsx_tools.counters import read_counts
from slurm_fsx_tools.jobenv import Operation, parse_operations
from slurm_fsx_tools.node.epilog import clean_up
from slurm_fsx_tools.node.prolog import prepare
from slurm_fsx_tools.node.run import EXIT_DRAIN, EXIT_OK, run


class Prologs:
    """Runs prologs and epilogs of job 7 with folders of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plugins = folder / "plugins.d"
        self.plugins.mkdir()
        self.config = folder / "config.yaml"
        self.configure("")

    def configure(self, more: str) -> None:
        self.config.write_text(
            f"runtime_dir: {self.folder}/run\n"
            f"fsx: {{root: {self.folder}/fsx, timeout: 0.5}}\n"
            f"prolog: {{plugins_dir: {self.plugins}, deadline: 2, plugin_timeout: 0.3, block: [monitoring]}}\n{more}"
        )

    def plugin(self, text: str, name: str = "site") -> None:
        (self.plugins / f"{name}.py").write_text(
            "import os, sys, time\nfrom slurm_fsx_tools import hookimpl\nfrom slurm_fsx_tools.health import Health\n"
            f"@hookimpl\n{text}\n"
        )

    def run(self, act: str = "prolog", **environ: str) -> int:
        body = {"prolog": prepare, "epilog": clean_up}[act]
        given = {"SLURM_JOB_ID": "7", "SLURMD_NODENAME": "n1", "SLURM_FSX_CONFIG": str(self.config), **environ}
        return run(act, body, given, run_dir=str(self.folder / "run"))

    @property
    def env(self) -> Path:
        return self.folder / "run/jobs/7.env"

    @property
    def operations(self) -> list[Operation]:
        return parse_operations(self.env.read_bytes())

    @property
    def log(self) -> str:
        return (self.folder / "run/jobs/7.log").read_text()


def children() -> set[int]:
    """The ids of this process's children, among them the daemons that other tests use."""
    return {child.pid for child in psutil.Process().children()}


def wait_for_new_children(before: set[int]) -> None:
    """Wait for what runs have left behind: to slurmd it is nobody's child, here it is this process's."""
    while left := children() - before:
        for pid in left:
            os.waitpid(pid, 0)


def is_running(pid: str) -> bool:
    """Whether a process is there, and not only waiting for somebody to hear of its end."""
    try:
        return psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def prologs(tmp_path: Path) -> Prologs:
    return Prologs(tmp_path)


def test_the_environment_of_the_plugins_is_written_for_the_job(prologs: Prologs) -> None:
    prologs.plugin("def slurm_fsx_job_env(job, env): env.set('NODE', job.node.name)")
    assert prologs.run() == EXIT_OK
    assert prologs.operations[-1] == Operation("set", "NODE", "n1")
    assert prologs.env.stat().st_mode & 0o777 == 0o644


def test_a_requeued_job_gets_a_new_environment(prologs: Prologs) -> None:
    for count in ("0", "1"):
        prologs.plugin("def slurm_fsx_job_env(job, env): env.set('RESTARTS', str(job.restart_count))")
        prologs.run(SLURM_RESTART_COUNT=count)
    assert prologs.operations[-1] == Operation("set", "RESTARTS", "1")


def test_an_epilog_leaves_nothing_and_may_run_twice_and_without_a_prolog(prologs: Prologs) -> None:
    assert prologs.run("epilog") == EXIT_OK
    prologs.plugin("def slurm_fsx_prolog(): raise RuntimeError('so that there is a log')")
    prologs.run()
    for _ in range(2):
        assert prologs.run("epilog") == EXIT_OK
        assert os.listdir(prologs.folder / "run/jobs") == []


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        pytest.param("Health.ok()", EXIT_OK, id="ok"),
        pytest.param("Health.warn('a fan is slow')", EXIT_OK, id="warn"),
        pytest.param("Health.drain('a GPU fell off the bus')", EXIT_DRAIN, id="drain"),
        pytest.param("Health('broken', 'a word of its own')", EXIT_OK, id="unknown-word"),
        pytest.param("1 / 0", EXIT_OK, id="check-fails"),
        pytest.param("time.sleep(9)", EXIT_OK, id="check-hangs"),
        pytest.param("os._exit(1)", EXIT_OK, id="check-ends-the-process"),
        pytest.param("sys.exit(100)", EXIT_OK, id="check-forges-the-code"),
        pytest.param("None", EXIT_OK, id="no-opinion"),
        pytest.param("'drain'", EXIT_OK, id="wrong-type"),
    ],
)
def test_only_a_verdict_drains_a_node(prologs: Prologs, verdict: str, code: int) -> None:
    prologs.plugin(f"def slurm_fsx_node_health(): return {verdict}")
    assert prologs.run() == code


def test_the_gravest_verdict_counts(prologs: Prologs) -> None:
    for name, verdict in (("a", "ok()"), ("b", "drain('no')"), ("c", "warn('hm')")):
        prologs.plugin(f"def slurm_fsx_node_health(): return Health.{verdict}", name)
    assert prologs.run() == EXIT_DRAIN
    assert "node health is drain: no" in prologs.log
    assert not prologs.env.exists()


@pytest.mark.parametrize(
    "misdeed",
    [
        pytest.param("os.kill(os.getpid(), 15)", id="is-ended"),
        pytest.param("os.kill(os.getpid(), 9)", id="is-killed"),
        pytest.param(
            "[signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM]), time.sleep(60)]", id="ignores-its-time"
        ),
    ],
)
def test_whatever_a_plugin_does_to_the_process_the_job_starts(prologs: Prologs, misdeed: str) -> None:
    prologs.plugin(f"def slurm_fsx_prolog():\n    import signal\n    {misdeed}")
    before = time.monotonic()
    assert prologs.run() == EXIT_OK
    assert time.monotonic() - before < 30
    assert "the job goes on without it" in prologs.log
    # What came before it is there: the environment is written before plugins act.
    assert prologs.env.exists()


def _missing_id(prologs: Prologs) -> dict[str, str]:
    return {"SLURM_JOB_ID": "../../etc/x"}


def _run_is_a_file(prologs: Prologs) -> dict[str, str]:
    (prologs.folder / "run").write_text("")
    return {}


def _jobs_is_a_file(prologs: Prologs) -> dict[str, str]:
    (prologs.folder / "run").mkdir()
    (prologs.folder / "run/jobs").write_text("")
    return {}


# With a good configuration before: without one the defaults count, and those paths are the node's own.
def _bad_config(prologs: Prologs) -> dict[str, str]:
    prologs.run()
    prologs.configure("fxs: 1\n")
    return {}


def _config_of_others(prologs: Prologs) -> dict[str, str]:
    prologs.run()
    prologs.config.chmod(0o666)
    return {}


def _garbage_snapshot(prologs: Prologs) -> dict[str, str]:
    (prologs.folder / "run").mkdir()
    (prologs.folder / "run/config.json").write_bytes(b'{"version": 1, "values": [')
    return {}


@pytest.mark.parametrize(
    "trouble", [_missing_id, _run_is_a_file, _jobs_is_a_file, _bad_config, _config_of_others, _garbage_snapshot]
)
@pytest.mark.parametrize("act", ["prolog", "epilog"])
def test_our_own_trouble_never_fails_a_job(
    prologs: Prologs, act: str, trouble: Callable[[Prologs], dict[str, str]]
) -> None:
    assert prologs.run(act, **trouble(prologs)) == EXIT_OK


def test_after_a_typo_the_last_good_configuration_stays_in_use(prologs: Prologs) -> None:
    prologs.plugin("def slurm_fsx_job_env(env, config): env.set('PROFILE', config['nccl.profile'])")
    prologs.configure("nccl: {profile: minimal}\n")
    prologs.run()
    prologs.configure("nccl: {profil: other}\n")
    prologs.run()
    assert prologs.operations[-1] == Operation("set", "PROFILE", "minimal")
    assert f"{prologs.config}:4: unknown key nccl.profil; did you mean nccl.profile?" in prologs.log


def test_a_name_with_line_breaks_cannot_forge_a_line_of_the_log(prologs: Prologs) -> None:
    prologs.plugin("def slurm_fsx_prolog(job): raise RuntimeError(job.name)")
    prologs.run(SLURM_JOB_NAME="x\n2026-01-01 prolog of job 8: all is well\x1b[2J")
    assert len(prologs.log.splitlines()) == 1
    assert "\x1b" not in prologs.log


def test_a_child_that_is_left_behind_does_not_hold_slurmds_pipe(prologs: Prologs) -> None:
    prologs.plugin("def slurm_fsx_prolog():\n    if os.fork() == 0:\n        time.sleep(20)\n        os._exit(0)")
    reader, writer = os.pipe()
    slurmd = os.fork()
    if slurmd == 0:
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        os.close(reader)
        os.close(writer)
        os._exit(prologs.run())
    os.close(writer)
    before = time.monotonic()
    assert os.read(reader, 1) == b""
    assert time.monotonic() - before < 15
    os.waitpid(slurmd, 0)


@pytest.mark.parametrize(
    ("misdeed", "failed"),
    [
        pytest.param("pass", 0, id="all-well"),
        pytest.param("1 / 0", 1, id="raises"),
        pytest.param("time.sleep(9)", 1, id="outlasts-its-time"),
        pytest.param("os.kill(os.getpid(), 9)", 1, id="is-killed"),
        pytest.param("os._exit(3)", 1, id="ends-the-process"),
        pytest.param(
            "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM]); time.sleep(60)",
            1,
            id="is-cut-off",
        ),
    ],
)
@pytest.mark.parametrize("act", ["prolog", "epilog"])
def test_each_run_is_counted_with_its_time_and_whether_it_failed_open(
    prologs: Prologs, act: str, misdeed: str, failed: int
) -> None:
    prologs.plugin(f"def slurm_fsx_{act}():\n    {misdeed}")
    for _ in range(2):
        prologs.run(act)
    (counted,) = read_counts(str(prologs.folder / "run")).items()
    assert counted[0] == act
    assert (sum(counted[1].buckets), counted[1].failed_open) == (2, 2 * failed)
    assert counted[1].total_us > (4_000_000 if "signal" in misdeed else 0)


def test_a_plugin_hears_of_a_failure_and_nobody_waits_for_it(prologs: Prologs) -> None:
    prologs.plugin("def slurm_fsx_prolog(): 1 / 0", "bad")
    told = prologs.folder / "told"
    prologs.plugin(
        f"def slurm_fsx_failed_open(act, job):\n    open({str(told)!r}, 'w').write(f'{{act}} {{job.id}}')", "pager"
    )
    assert prologs.run() == EXIT_OK
    end = time.monotonic() + 30
    while not (told.exists() and told.read_text()):
        assert time.monotonic() < end
        time.sleep(0.01)
    assert told.read_text() == "prolog 7"


def test_an_epilog_that_is_cut_short_leaves_a_job_that_is_gone(prologs: Prologs) -> None:
    prologs.run()
    prologs.plugin("def slurm_fsx_epilog(): os.kill(os.getpid(), 9)")
    prologs.run("epilog")
    assert not prologs.env.exists()


@pytest.mark.parametrize(
    "misdeed",
    [
        pytest.param("1 / 0", id="raises"),
        pytest.param("os.kill(os.getpid(), 9)", id="is-killed"),
        pytest.param(
            "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM]); time.sleep(60)",
            id="is-cut-off",
        ),
        pytest.param("from pathlib import Path; Path({counters!r}).mkdir()", id="leaves-a-run-that-is-not-counted"),
    ],
)
def test_whatever_an_epilog_had_to_say_the_jobs_log_goes_with_the_job(prologs: Prologs, misdeed: str) -> None:
    prologs.plugin(f"def slurm_fsx_epilog():\n    {misdeed.format(counters=f'{prologs.folder}/run/counters.json')}")
    assert prologs.run("epilog") == EXIT_OK
    assert os.listdir(prologs.folder / "run/jobs") == []


def test_a_plugin_that_never_has_enough_of_a_failure_is_ended(prologs: Prologs) -> None:
    before = children()
    pid = prologs.folder / "pid"
    prologs.plugin("def slurm_fsx_prolog(): 1 / 0", "bad")
    prologs.plugin(
        "def slurm_fsx_failed_open():\n"
        "    import signal\n"
        "    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])\n"
        f"    open({str(pid)!r}, 'w').write(str(os.getpid()))\n"
        "    time.sleep(600)",
        "pager",
    )
    prologs.config.write_text(prologs.config.read_text().replace("deadline: 2", "deadline: 4"))
    assert prologs.run() == EXIT_OK
    wait_for_new_children(before)
    end = time.monotonic() + 30
    while is_running(pid.read_text()):
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("act", ["prolog", "epilog"])
def test_a_plugin_that_hears_of_a_failure_when_the_job_is_gone_leaves_no_log_of_it(prologs: Prologs, act: str) -> None:
    before = children()
    gone = prologs.folder / "gone"
    prologs.plugin(f"def slurm_fsx_{act}(): 1 / 0", "bad")
    prologs.plugin(
        "def slurm_fsx_failed_open():\n"
        f"    while not os.path.exists({str(gone)!r}): time.sleep(0.01)\n"
        "    raise RuntimeError('too late')",
        "pager",
    )
    prologs.configure("")
    prologs.config.write_text(prologs.config.read_text().replace("plugin_timeout: 0.3", "plugin_timeout: 30"))
    for each in ("prolog", "epilog"):
        assert prologs.run(each) == EXIT_OK
    gone.touch()
    wait_for_new_children(before)
    assert os.listdir(prologs.folder / "run/jobs") == []
