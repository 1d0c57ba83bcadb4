"""Prolog, epilog and task start on real Slurm, when things go well and when they do not: no job ever fails for it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lab.cluster import Cluster

    from .conftest import Site

CONFIG = "/etc/slurm-fsx/config.yaml"
PLUGIN = "from slurm_fsx_tools import hookimpl\nfrom slurm_fsx_tools.health import Health\n@hookimpl\n"


@pytest.fixture
def site(bare_site: Site) -> Iterator[Site]:
    """The shared cluster, as it was afterwards."""
    yield bare_site
    cluster = bare_site.cluster
    for machine in cluster.machines:
        machine.run(["rm", "-rf", "/etc/slurm-fsx/plugins.d", CONFIG])
    cluster.resume(*cluster.nodes)
    cluster.wait_until_idle()


def plugin(site: Site, text: str, name: str = "site") -> None:
    site.cluster.write_on_all(f"/etc/slurm-fsx/plugins.d/{name}.py", PLUGIN + text + "\n")


def logged(cluster: Cluster, text: str) -> bool:
    return any(line.program == "slurm-fsx" and text in line.text for line in cluster.syslog)


def assert_runs(site: Site, nccl: bool = True) -> None:
    """A job on both nodes runs, with the NCCL environment or without."""
    found = site.srun("--nodes=2")
    assert [task["SLURMD_NODENAME"] for task in found] == ["n1", "n2"]
    assert [task.get("NCCL_DEBUG") for task in found] == ["INFO" if nccl else None] * 2
    site.cluster.wait_until_idle()


def test_what_the_prolog_writes_is_there_while_the_job_runs_and_gone_afterwards(site: Site) -> None:
    cluster = site.cluster
    job = cluster.sbatch("#!/bin/sh\nsleep 60\n", "--nodes=2")
    for node in cluster.nodes.values():
        path = node.path(f"/run/slurm-fsx/jobs/{job.id}.env")
        cluster.wait_until(path.exists, "the job's environment")
        assert path.read_text().startswith("# slurm-fsx env 1\n")
        assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (0, 0o644)
    cluster.cancel(job)
    for node in cluster.nodes.values():
        assert list(node.path("/run/slurm-fsx/jobs").iterdir()) == []


def test_the_targets_of_both_nodes_are_registered(site: Site) -> None:
    assert_runs(site)
    for name in site.cluster.nodes:
        [group] = json.loads((site.cluster.fsx / f"monitoring/targets/{name}.json").read_text())
        assert group == {
            "targets": [f"{name}:9100"],
            "labels": {"cluster": "lab", "exporter": "node_exporter", "node": name},
        }


def test_fsx_that_hangs_costs_the_job_two_seconds_and_nothing_else(site: Site) -> None:
    cluster = site.cluster
    assert_runs(site)
    for node in cluster.nodes.values():
        node.path("/run/slurm-fsx/nccl.json").unlink()
        node.hang_fsx()
    try:
        before = time.monotonic()
        assert_runs(site, nccl=False)
        # Far from Slurm's own limits, not a figure: one look of fsx.timeout, and nobody looks again.
        assert time.monotonic() - before < 30
        assert logged(cluster, "/fsx did not answer within 2 s")
    finally:
        for node in cluster.nodes.values():
            node.heal_fsx()
    assert_runs(site)


def test_a_submission_does_not_wait_for_an_fsx_that_hangs(site: Site) -> None:
    cluster = site.cluster
    cluster.head.hang_fsx()
    try:
        assert_runs(site)
        for config in ("", "# newer than what was compiled of it\n"):
            if config:
                cluster.head.write(CONFIG, config)
            done = cluster.srun("--container-name=pytorch", "true")
            assert "gives no answer" in done.stderr
            assert "pytorch stays unresolved" in done.stderr
    finally:
        cluster.head.heal_fsx()
    assert site.srun("--container-name=pytorch")[0]["IMAGE"] == "nvcr.io_nvidia_pytorch-24.03-py3"


def _without_nccl(site: Site) -> Callable[[], None]:
    nccl = site.cluster.fsx / "nccl"
    nccl.rename(nccl.with_name("elsewhere"))
    return lambda: nccl.with_name("elsewhere").rename(nccl) and None


def _unmounted(site: Site) -> Callable[[], None]:
    for name in site.cluster.nodes:
        site.cluster.run_on(name, ["umount", "-l", "/fsx"])

    def mend() -> None:
        for name in site.cluster.nodes:
            done = site.cluster.run_on(name, ["mount", "--bind", str(site.cluster.fsx), "/fsx"])
            assert done.returncode == 0, done.stderr

    return mend


def _writable_by_all(site: Site) -> Callable[[], None]:
    script = site.cluster.fsx / "nccl/setup-nccl-env.sh"
    script.chmod(0o666)
    return lambda: script.chmod(0o644)


@pytest.mark.parametrize("trouble", [_without_nccl, _unmounted, _writable_by_all])
def test_without_an_installation_to_trust_jobs_run_without_nccl(
    site: Site, trouble: Callable[[Site], Callable[[], None]]
) -> None:
    mend = trouble(site)
    try:
        assert_runs(site, nccl=False)
    finally:
        mend()
    assert_runs(site)


def _forget_registration(site: Site) -> None:
    for name, node in site.cluster.nodes.items():
        (site.cluster.fsx / f"monitoring/targets/{name}.json").unlink()
        node.path("/run/slurm-fsx/registration.json").unlink()


def _fsx_read_only(site: Site) -> None:
    _forget_registration(site)
    for name in site.cluster.nodes:
        done = site.cluster.run_on(name, ["mount", "-o", "remount,bind,ro", "/fsx"])
        assert done.returncode == 0, done.stderr


def _targets_in_the_way(site: Site) -> None:
    _forget_registration(site)
    for name in site.cluster.nodes:
        (site.cluster.fsx / f"monitoring/targets/{name}.json").mkdir()


def _bad_config(site: Site) -> None:
    site.cluster.write_on_all(CONFIG, "fxs: {root: /\n")


def _config_of_others(site: Site) -> None:
    site.cluster.write_on_all(CONFIG, "nccl: {enabled: false}\n", mode=0o666)


def _broken_plugins(site: Site) -> None:
    plugin(site, "def slurm_fsx_job_env(env):\n    env.set('HALF', 'written')\n    raise RuntimeError('broken')", "a")
    plugin(site, "def slurm_fsx_job_env(env):\n    import time\n    time.sleep(60)", "b")
    plugin(site, "def slurm_fsx_prolog():\n    import os\n    os.kill(os.getpid(), 11)", "c")
    plugin(site, "syntax error", "d")


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        pytest.param(_fsx_read_only, "Read-only file system", id="fsx-read-only"),
        pytest.param(_targets_in_the_way, "monitoring: slurm_fsx_prolog failed", id="targets-in-the-way"),
        pytest.param(_bad_config, f"{CONFIG}:", id="bad-config"),
        pytest.param(_config_of_others, f"run: chmod go-w {CONFIG}", id="config-of-others"),
        pytest.param(_broken_plugins, "a: slurm_fsx_job_env failed", id="broken-plugins"),
    ],
)
def test_in_trouble_of_its_own_a_job_still_has_its_environment_and_the_log_says_why(
    site: Site, trouble: Callable[[Site], None], said: str
) -> None:
    assert_runs(site)
    trouble(site)
    try:
        assert_runs(site)
        assert logged(site.cluster, said)
    finally:
        for name in site.cluster.nodes:
            site.cluster.run_on(name, ["mount", "-o", "remount,bind,rw", "/fsx"])
            path = site.cluster.fsx / f"monitoring/targets/{name}.json"
            if path.is_dir():
                path.rmdir()


def test_a_run_that_is_full_costs_the_environment_and_nothing_else(site: Site) -> None:
    cluster = site.cluster
    for name in cluster.nodes:
        done = cluster.run_on(
            name,
            [
                "sh",
                "-c",
                "mount -t tmpfs -o size=16k tmpfs /run/slurm-fsx && head -c 1M /dev/zero >/run/slurm-fsx/full; :",
            ],
        )
        assert done.returncode == 0, done.stderr
    try:
        assert_runs(site, nccl=False)
        assert logged(cluster, "No space left on device")
    finally:
        for name in cluster.nodes:
            cluster.run_on(name, ["umount", "/run/slurm-fsx"])
    assert_runs(site)


HOSTILE = [
    pytest.param(b"", True, id="empty"),
    pytest.param(b"# slurm-fsx env 1\nset NCCL_DEBUG=EV", True, id="truncated"),
    pytest.param(b"set NCCL_DEBUG=EVIL\n", True, id="no-header"),
    pytest.param(
        b"# slurm-fsx env 1\nset =x\nset A B=1\nset 1=2\nset NUL=a\0b\n\xff\xfe\nset " + b"X" * 70000 + b"=1\n",
        True,
        id="garbage",
    ),
    pytest.param(b"# slurm-fsx env 1\n" + b"set A=" + b"x" * (2 << 20) + b"\n", True, id="too-large"),
    pytest.param(b"# slurm-fsx env 1\nset LD_PRELOAD=/tmp/evil.so\n", False, id="of-others"),
]


@pytest.mark.parametrize(("content", "trusted"), HOSTILE)
def test_a_hostile_environment_file_does_not_stop_the_step(site: Site, content: bytes, trusted: bool) -> None:
    cluster = site.cluster
    job = cluster.sbatch("#!/bin/sh\nwhile [ ! -e go ]; do sleep 0.1; done; srun env; rm go\n", "--nodelist=n1")
    path = cluster.nodes["n1"].path(f"/run/slurm-fsx/jobs/{job.id}.env")
    cluster.wait_until(path.exists, "the job's environment")
    path.write_bytes(content)
    if not trusted:
        os.chown(path, 2001, 2001)
    cluster.home("ada").joinpath("go").touch()
    assert cluster.wait(job) == "COMPLETED", job.output
    assert "SLURM_STEP_ID=0" in job.output
    assert "evil" not in job.output


def test_a_policy_drains_a_node_and_the_job_waits(site: Site) -> None:
    cluster = site.cluster
    node = cluster.nodes["n1"]
    node.write(
        "/etc/slurm-fsx/plugins.d/policy.py",
        PLUGIN + "def slurm_fsx_node_health():\n    return Health.drain('a GPU is gone')\n",
    )
    job = cluster.sbatch("#!/bin/sh\ntrue\n", "--nodelist=n1")
    cluster.wait_until(lambda: "drain" in cluster.node_states()["n1"], "n1 drained")
    assert logged(cluster, "node health is drain: a GPU is gone")
    node.path("/etc/slurm-fsx/plugins.d/policy.py").unlink()
    cluster.cancel(job)
    cluster.resume("n1")
    assert_runs(site)


def test_a_site_plugin_has_the_last_word(site: Site) -> None:
    plugin(
        site,
        "def slurm_fsx_job_env(job, env):\n    env.default('NCCL_DEBUG', 'WARN')\n    env.set('SITE_USER', job.user)",
    )
    task = site.srun()[0]
    assert (task["NCCL_DEBUG"], task["SITE_USER"]) == ("WARN", "ada")
    assert site.srun(env={"NCCL_DEBUG": "TRACE"})[0]["NCCL_DEBUG"] == "TRACE"


def test_a_plugin_of_somebody_else_is_not_run_by_root(site: Site) -> None:
    for node in site.cluster.nodes.values():
        path = node.write(
            "/etc/slurm-fsx/plugins.d/site.py", PLUGIN + "def slurm_fsx_job_env(env): env.set('OWNED', '1')\n"
        )
        os.chown(path, 2001, 2001)
    assert "OWNED" not in site.srun()[0]
    assert logged(site.cluster, "belongs to user 2001")


def test_jobs_that_share_a_node_do_not_meet(site: Site) -> None:
    cluster = site.cluster
    wanted = [("pytorch", "ada"), ("nemo", "bob"), ("pytorch-24.01", "ada"), ("pytorch", "bob")]
    script = "#!/bin/sh\nsleep 0.5\nenv\n"
    jobs = [cluster.sbatch(script, "--nodelist=n1", f"--container-name={name}", user=user) for name, user in wanted]
    for job, (name, user) in zip(jobs, wanted):
        assert cluster.wait(job) == "COMPLETED", job.output
        found = dict(line.split("=", 1) for line in job.output.splitlines() if "=" in line)
        assert name.partition("-")[0] in found["IMAGE"]
        assert (found["USER"], found["NCCL_DEBUG"]) == (user, "INFO")


def test_many_short_jobs_leave_nothing_behind(site: Site) -> None:
    cluster = site.cluster
    job = cluster.sbatch("#!/bin/sh\nenv\n", "--array=1-24", "--container-name=pytorch")
    assert cluster.wait(job, timeout_s=120) == "COMPLETED"
    assert all("NCCL_DEBUG=INFO" in output and "IMAGE=" in output for output in job.outputs.values())
    for name, node in cluster.nodes.items():
        assert list(node.path("/run/slurm-fsx/jobs").iterdir()) == []
        mounts = cluster.run_on(name, ["cat", "/proc/self/mountinfo"]).stdout
        assert "/run/slurm-fsx/mounts/" not in mounts
        assert cluster.run_on(name, ["pgrep", "squashfuse"]).stdout == ""


def test_a_step_that_is_killed_leaves_no_mount_for_the_next_job(site: Site) -> None:
    cluster = site.cluster
    job = cluster.sbatch("#!/bin/sh\nsleep 100\n", "--container-name=pytorch", "--nodelist=n1")
    cluster.wait_until(
        lambda: "slurm-fsx/mounts" in cluster.run_on("n1", ["cat", "/proc/self/mountinfo"]).stdout, "a mount"
    )
    cluster.run_on("n1", ["pkill", "-KILL", "slurmstepd"])
    cluster.cancel(job)
    cluster.resume("n1")
    assert "slurm-fsx/mounts" not in cluster.run_on("n1", ["cat", "/proc/self/mountinfo"]).stdout
    assert site.srun("--nodelist=n1", "--container-name=pytorch")[0]["IMAGE"]


def test_a_stale_index_is_not_believed(site: Site) -> None:
    newer = site.image("nvcr.io_nvidia_pytorch-24.12-py3")
    try:
        assert site.srun("--container-name=pytorch")[0]["IMAGE"] == "nvcr.io_nvidia_pytorch-24.12-py3"
        site.index()
    finally:
        newer.unlink()
    assert site.srun("--container-name=pytorch")[0]["IMAGE"] == "nvcr.io_nvidia_pytorch-24.03-py3"
    site.index()


def test_an_index_that_others_could_have_written_is_not_believed(site: Site) -> None:
    index = site.cluster.fsx / "containers/.slurm-fsx/index"
    text = index.read_text()
    try:
        index.write_text(text.replace("24.03", "24.01"))
        index.chmod(0o666)
        assert site.srun("--container-name=pytorch")[0]["IMAGE"] == "nvcr.io_nvidia_pytorch-24.03-py3"
    finally:
        index.chmod(0o644)
        index.write_text(text)


def test_a_node_without_an_installation_runs_jobs(site: Site) -> None:
    for name in site.cluster.nodes:
        site.cluster.run_on(name, ["mount", "-t", "tmpfs", "tmpfs", "/opt/slurm-fsx"])
    try:
        assert_runs(site, nccl=False)
    finally:
        for name in site.cluster.nodes:
            site.cluster.run_on(name, ["umount", "/opt/slurm-fsx"])
    assert_runs(site)
