"""The commands of monitoring where there is no Slurm; with one, tests/cluster does the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml


class Head:
    """A head node's folders, and commands that run in processes of their own."""

    def __init__(self, folder: Path) -> None:
        (folder / "fsx/monitoring/targets").mkdir(parents=True)
        (folder / "bin").mkdir()
        self.textfiles = folder / "textfiles"
        self._folder = folder
        self.configure()
        self._environment = {"PATH": str(folder / "bin"), "SLURM_FSX_CONFIG": str(folder / "config.yaml")}

    def configure(self, **monitoring: object) -> None:
        folders = {"state_dir": str(self._folder / "state"), "textfile_dir": str(self.textfiles)}
        settings = {
            "fsx": {"root": str(self._folder / "fsx")},
            "runtime_dir": str(self._folder / "run"),
            "monitoring": {**folders, **monitoring},
            "prolog": {"plugins_dir": str(self._folder / "plugins.d")},
        }
        (self._folder / "config.yaml").write_text(yaml.dump(settings))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "slurm_fsx_tools", "monitoring", *arguments],
            env={**self._environment, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err


@pytest.fixture
def head(tmp_path: Path) -> Head:
    return Head(tmp_path)


def test_a_sync_without_slurm_says_so_ends_with_1_and_tells_prometheus(head: Head) -> None:
    code, out, err = head.run("sync")
    assert (code, out) == (1, "")
    assert err.startswith("slurm-fsx: ")
    assert "slurm_fsx_sync_success 0\n" in (head.textfiles / "slurm_fsx_sync.prom").read_text()
    assert not (head.textfiles / "slurm_fsx_head.prom").exists()


def test_a_node_registers_nothing_where_monitoring_is_off(head: Head) -> None:
    head.configure(enabled=False)
    assert head.run("register", "--node=localhost") == (0, "", "monitoring.enabled is false: nothing is registered\n")


def test_a_node_that_nobody_tells_the_clusters_name_is_not_registered(head: Head) -> None:
    code, _, err = head.run("register", "--node=localhost")
    assert code == 1
    assert "set cluster.name in the configuration" in err


def test_a_dry_run_tells_prometheus_nothing(head: Head) -> None:
    assert head.run("sync", "--dry-run")[0] == 1
    assert not head.textfiles.exists()


def test_a_watch_says_a_lasting_trouble_once_and_ends_when_told(head: Head) -> None:
    process = head.start("sync", "--watch", "--interval=1")
    metrics = head.textfiles / "slurm_fsx_sync.prom"
    seen: set[int] = set()
    end = time.monotonic() + 60
    while len(seen) < 3:  # three passes
        if metrics.exists():
            seen.add(metrics.stat().st_mtime_ns)
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert err.count("the last state stays") == 1


def test_a_page_is_served_without_slurm_and_says_so(head: Head) -> None:
    process = head.start("serve", "--listen=127.0.0.1:0")
    assert process.stderr is not None
    url = process.stderr.readline().split()[0]
    try:
        end = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"{url}healthz", timeout=30):
                    break
            except OSError:
                assert time.monotonic() < end
                time.sleep(0.05)
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert b"Slurm does not answer" in answer.read()
        with urllib.request.urlopen(f"{url}targets", timeout=30) as answer:
            assert answer.read() == b"[]"
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.parametrize("listen", ["8674", ":8674", "localhost:", "localhost:http", "localhost:99999"])
def test_what_is_no_address_is_refused(head: Head, listen: str) -> None:
    code, _, err = head.run("serve", f"--listen={listen}")
    assert code == 1
    assert "is no HOST:PORT" in err
