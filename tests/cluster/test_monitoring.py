"""Nodes become targets of a real Prometheus, by their jobs, at boot, and by what the head node asks Slurm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.prometheus import NODE_EXPORTER_PORT, Prometheus

from .conftest import COMMAND, make_site

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from lab.node import Daemon, Node

    from .conftest import Site

POWER = """\
SuspendProgram=/bin/true
ResumeProgram=/bin/true
SuspendTime=86400
SuspendTimeout=1
ResumeTimeout=60
"""
SERVE = "127.0.0.1:8674"


@pytest.fixture(scope="module")
def watched(
    tmp_path_factory: pytest.TempPathFactory, installation: Path, checkout: Path
) -> Iterator[tuple[Site, Prometheus]]:
    """A cluster of its own, since nodes come and go, with Prometheus and its exporters."""
    folder = tmp_path_factory.mktemp("watched")
    for site in make_site("bwrap", folder, installation, checkout, exporters=False):
        # An admin who has nodes powered down by hand: what would really start and stop them does not matter.
        conf = site.cluster.slurm_etc / "slurm.conf"
        conf.write_text(conf.read_text() + POWER)
        site.cluster.slurmctld.stop()
        site.cluster.start_slurmctld()
        site.cluster.wait_until_idle()
        with Prometheus.start(site.cluster) as prometheus:
            yield site, prometheus


@pytest.fixture
def site(watched: tuple[Site, Prometheus]) -> Iterator[Site]:
    """The cluster as if none of its nodes had ever been seen."""
    site, _ = watched
    forget(site)
    yield site
    site.cluster.resume(*site.cluster.nodes)


@pytest.fixture
def prometheus(watched: tuple[Site, Prometheus]) -> Prometheus:
    return watched[1]


def forget(site: Site) -> None:
    for file in targets(site).glob("*.json"):
        file.unlink()
    for node in site.cluster.nodes.values():
        node.path("/run/slurm-fsx/registration.json").unlink(missing_ok=True)
    (site.cluster.head.path("/var/lib/slurm-fsx/monitoring/targets.json")).unlink(missing_ok=True)


def targets(site: Site) -> Path:
    return site.cluster.fsx / "monitoring/targets"


def files(site: Site) -> dict[str, tuple[int, int]]:
    """A file that is replaced is another inode. Its atime does not count: prologs and Prometheus read it."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in targets(site).glob("*.json")}


def sync(site: Site, *options: str) -> subprocess.CompletedProcess[str]:
    return site.cluster.run_on("head", [COMMAND, "monitoring", "sync", *options])


def update(site: Site, name: str, state: str) -> None:
    done = site.cluster.run_on("head", ["scontrol", "update", f"NodeName={name}", f"State={state}", "Reason=test"])
    assert done.returncode == 0, done.stderr


def test_a_node_is_up_in_prometheus_once_it_has_run_a_job(site: Site, prometheus: Prometheus) -> None:
    site.srun("--nodes=2")
    site.cluster.wait_until(lambda: prometheus.up() == {"n1", "n2"}, "both nodes up in Prometheus")
    found = prometheus.targets()
    assert len(found) == 2
    for target in found:
        assert target.is_up
        assert target.labels["cluster"] == "lab"
        assert target.labels["exporter"] == "node_exporter"
        assert target.instance == f"{target.labels['node']}:{NODE_EXPORTER_PORT}"
    before = files(site)
    site.srun("--nodes=2")
    assert files(site) == before


def test_a_node_that_never_ran_a_job_is_up_by_the_head_nodes_sync(site: Site, prometheus: Prometheus) -> None:
    done = sync(site, "--json", "--explain")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert {change["node"]: change["act"] for change in told["changes"]} == {"n1": "add", "n2": "add"}

    def up() -> list[tuple[str, str | None]]:
        # A test before this one may have had them up by their jobs, which know no partition.
        return [(each.labels["node"], each.labels.get("partition")) for each in prometheus.targets() if each.is_up]

    site.cluster.wait_until(lambda: up() == [("n1", "all"), ("n2", "all")], "both nodes up in Prometheus")
    before = files(site)
    site.srun("--nodes=2")  # the prolog finds what it would write, and keeps the labels
    assert sync(site).returncode == 0
    assert files(site) == before


def test_a_node_registers_what_answers_at_boot(site: Site) -> None:
    done = site.cluster.run_on("n1", [COMMAND, "monitoring", "register", "--wait=10"])
    assert done.returncode == 0, done.stderr
    assert "n1: node_exporter answers at port 9100" in done.stderr
    assert set(files(site)) == {"n1.json"}
    before = files(site)
    site.srun("--nodelist=n1")
    assert files(site) == before


def test_a_drained_or_silent_node_stays_a_target_whose_alert_fires(site: Site, prometheus: Prometheus) -> None:
    assert sync(site).returncode == 0
    site.cluster.wait_until(lambda: prometheus.up() == {"n1", "n2"}, "both nodes up in Prometheus")
    update(site, "n2", "DOWN")
    prometheus.exporter("n2").stop()
    try:
        assert sync(site).returncode == 0
        # Waited for as a whole: files that the fixture removed may go from Prometheus only now, to come back at once.
        silent = [("n1", True), ("n2", False)]
        site.cluster.wait_until(
            lambda: [(each.labels["node"], each.is_up) for each in prometheus.targets()] == silent, "n2 there, not up"
        )
    finally:
        prometheus.start_exporter("n2")


def test_a_node_that_is_powered_down_goes_and_comes_back(site: Site, prometheus: Prometheus) -> None:
    site.srun("--nodelist=n2")
    assert sync(site).returncode == 0
    site.cluster.wait_until(lambda: prometheus.up() == {"n1", "n2"}, "both nodes up in Prometheus")
    cluster = site.cluster
    update(site, "n2", "POWER_DOWN")
    cluster.slurmd("n2").stop()
    cluster.wait_until(lambda: removed_by_sync(site) == ["n2"], "n2 not a target any more")
    cluster.wait_until(
        lambda: [each.labels["node"] for each in prometheus.targets()] == ["n1"], "Prometheus without n2"
    )
    update(site, "n2", "POWER_UP")
    assert sync(site).returncode == 0
    assert set(files(site)) == {"n1.json"}, "a node that is not there yet is no target"
    # -b: as after a boot.
    cluster.nodes["n2"].start_daemon("slurmd", ["slurmd", "-D", "-b", "-N", "n2"])
    cluster.wait_until_idle()
    # It has kept its /run, and with that what it remembers of its registration: here nobody but sync can help.
    site.srun("--nodelist=n2")
    assert sync(site).returncode == 0
    cluster.wait_until(lambda: prometheus.up() == {"n1", "n2"}, "n2 back in Prometheus")


def removed_by_sync(site: Site) -> list[str]:
    told = json.loads(sync(site, "--json").stdout)
    return [each["node"] for each in told["changes"] if each["act"] == "remove"]


def test_a_node_deleted_from_slurms_configuration_goes_and_comes_back(site: Site, prometheus: Prometheus) -> None:
    assert sync(site).returncode == 0
    conf = site.cluster.slurm_etc / "slurm.conf"
    before = conf.read_text()
    kept = [line for line in before.splitlines() if not line.startswith("NodeName=n2 ")]

    def use(text: str) -> None:
        conf.write_text(text)
        site.cluster.slurmctld.stop()
        site.cluster.start_slurmctld()

    site.cluster.slurmd("n2").stop()
    use("\n".join(kept) + "\n")
    try:
        site.cluster.wait_until(lambda: removed_by_sync(site) == ["n2"], "n2 not a target any more")
        site.cluster.wait_until(lambda: prometheus.up() == {"n1"}, "Prometheus without n2")
    finally:
        use(before)
        site.cluster.start_slurmd("n2")
        site.cluster.wait_until_idle()
    assert sync(site).returncode == 0
    assert set(files(site)) == {"n1.json", "n2.json"}


def test_a_watch_says_that_fsx_hangs_and_goes_on_when_it_is_back(site: Site) -> None:
    head = site.cluster.head
    log = head.log / "watch.out"
    success = head.path("/var/lib/prometheus/node-exporter/slurm_fsx_sync.prom")
    assert sync(site).returncode == 0
    watch = head.start_daemon("watch", [COMMAND, "monitoring", "sync", "--watch", "--interval=1", "--timeout=3"])
    try:
        site.cluster.wait_until(lambda: log.read_text().count("with targets") > 1, "two passes")
        head.hang_fsx()
        try:
            site.cluster.wait_until(lambda: "did not answer before" in log.read_text(), "a second pass is not made")
            assert "/fsx did not answer within 3 s" in log.read_text()
            assert "slurm_fsx_sync_success 0" in success.read_text()
            children = head.run(["pgrep", "-c", "-P", pid_in(head, watch)]).stdout.strip()
            assert children == "1", "those that hang do not become many"
        finally:
            head.heal_fsx()
        site.cluster.wait_until(lambda: "slurm_fsx_sync_success 1" in success.read_text(), "passes succeed again")
        assert watch.is_running
    finally:
        watch.stop()


def pid_in(node: Node, daemon: Daemon) -> str:
    """Give a daemon's process id as its own node knows it."""
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    return next(line.split()[-1] for line in status.splitlines() if line.startswith("NSpid:"))


def test_the_page_is_there_while_fsx_hangs_and_can_be_started_anew(site: Site) -> None:
    head = site.cluster.head
    assert sync(site).returncode == 0
    command = [COMMAND, "monitoring", "serve", f"--listen={SERVE}", "--interval=1", "--timeout=3"]

    def get(path: str) -> str:
        ask = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())"
        return head.run([*head.python(), "-c", ask, f"http://{SERVE}{path}"]).stdout

    server = head.start_daemon("serve", command)
    job = None
    try:
        site.cluster.wait_until(lambda: "n1:9100" in get("/targets"), "targets are offered")
        head.hang_fsx()
        try:
            told = "The shared file system does not answer, targets and images are as they were last seen"
            site.cluster.wait_until(lambda: told in get("/"), "the page says that /fsx hangs")
            assert "n1:9100" in get("/targets")
            job = site.cluster.sbatch("#!/bin/sh\nsleep 60", "--job-name=meanwhile", "--partition=all")
            site.cluster.wait_until(lambda: 'jobs running</dt><dd class="">1<' in get("/"), "Slurm is asked still")
            server.stop()
            server = head.start_daemon("serve", command)
            told = "The shared file system does not answer, no target is known"
            site.cluster.wait_until(lambda: told in get("/"), "a new one has the port")
            assert get("/targets") == "", "Prometheus keeps what it has"
        finally:
            head.heal_fsx()
        site.cluster.wait_until(lambda: "n1:9100" in get("/targets"), "targets are offered again")
        assert "shared file system does not answer" not in get("/")
    finally:
        server.stop()
        if job is not None:
            site.cluster.cancel(job)


def test_without_its_controller_the_last_state_stays_and_the_timer_shows_it(site: Site, prometheus: Prometheus) -> None:
    assert sync(site).returncode == 0
    before = files(site)
    site.cluster.slurmctld.stop()
    try:
        done = sync(site)
        assert done.returncode == 1
        assert done.stderr.startswith("slurm-fsx: ")
        assert files(site) == before
        metrics = site.cluster.head.path("/var/lib/prometheus/node-exporter")
        assert "slurm_fsx_sync_success 0" in (metrics / "slurm_fsx_sync.prom").read_text()
        assert 'slurm_fsx_nodes{state="idle"} 2' in (metrics / "slurm_fsx_head.prom").read_text()
    finally:
        site.cluster.start_slurmctld()
    site.cluster.wait_until(lambda: sync(site).returncode == 0, "sync with a controller again")
    assert files(site) == before


def test_the_head_node_tells_of_jobs_whose_prologs_know_neither_name_nor_account(site: Site) -> None:
    job = site.cluster.sbatch("#!/bin/sh\nsleep 60", '--job-name=say "what"', "--nodes=2")
    try:
        site.cluster.wait_until(lambda: site.cluster.show_job(job)[0]["JobState"] == "RUNNING", "the job runs")
        assert sync(site).returncode == 0
        text = site.cluster.head.path("/var/lib/prometheus/node-exporter/slurm_fsx_head.prom").read_text()
        line = next(line for line in text.splitlines() if f'jobid="{job.id}"' in line)
        assert r'job_name="say \"what\""' in line
        assert 'user="ada"' in line
        assert 'nodes="n[1-2]"' in line
    finally:
        site.cluster.cancel(job)


def test_prometheus_finds_the_same_nodes_by_http_and_after_a_restart(site: Site) -> None:
    cluster = site.cluster
    assert sync(site).returncode == 0
    server = cluster.head.start_daemon("serve", [COMMAND, "monitoring", "serve", f"--listen={SERVE}", "--interval=1"])
    cluster.head.write(
        "/etc/prometheus/http.yml",
        f"""\
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: slurm-fsx
    http_sd_configs: [{{url: "http://{SERVE}/targets", refresh_interval: 1s}}]
""",
    )
    flags = ["prometheus", "--config.file=/etc/prometheus/http.yml", "--web.listen-address=127.0.0.1:9091"]
    flags.append("--storage.tsdb.path=/var/lib/prometheus/http")

    def up() -> set[str]:
        done = cluster.head.run(["promtool", "query", "instant", "--format=json", "http://127.0.0.1:9091", "up == 1"])
        series = json.loads(done.stdout or "null") if done.returncode == 0 else None
        return {f"{each['metric']['node']} {each['metric']['partition']}" for each in series or ()}

    try:
        for _ in range(2):
            prometheus = cluster.head.start_daemon("prometheus-http", flags)
            try:
                cluster.wait_until(lambda: up() == {"n1 all", "n2 all"}, "both nodes up by http_sd")
            finally:
                prometheus.stop()
    finally:
        server.stop()
