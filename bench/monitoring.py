"""Targets of 10,000 nodes: a sync's pass, http_sd's answer, and registration in a prolog where nothing has changed."""

from __future__ import annotations

import http.client
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from lab.cluster import CHECKOUT
from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.job import Node
from slurm_fsx_tools.monitoring.exporters import Exporter
from slurm_fsx_tools.monitoring.on_head.overview import format_discovery
from slurm_fsx_tools.monitoring.on_head.serving import Document, Server
from slurm_fsx_tools.monitoring.on_head.sync import Sync
from slurm_fsx_tools.monitoring.targets import add_exporters
from slurm_fsx_tools.slurm.choice import choose_client

from .figures import Figure
from .slurm_answers import SlurmAnswers

NODES = 10_000
CHANGED = 100
ROUNDS = 5
PROLOGS = 200

_REGISTER = f"""
import sys, time
sys.path.insert(0, sys.argv[1])
from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.job import Node
from slurm_fsx_tools.monitoring.exporters import Exporter
from slurm_fsx_tools.monitoring.on_node.registration import register_new
from slurm_fsx_tools.monitoring.targets import add_exporters
from slurm_fsx_tools.shared_fs import SharedFs

config = Config({{"fsx.root": sys.argv[2], "runtime_dir": sys.argv[3]}})
node, exporters = Node("n1", "bench"), [Exporter("node_exporter", 9100), Exporter("dcgm-exporter", 9400)]
assert add_exporters(config["fsx.root"], node, "", exporters)
times = []
for _ in range({PROLOGS}):
    before = time.perf_counter()
    added = register_new(node, exporters, config, SharedFs(config["fsx.root"], 5))
    times.append((time.perf_counter() - before) * 1000)
    assert not added
print(sorted(times)[{PROLOGS} // 2])
"""
"""Both are registered: were they not, nothing would answer at their ports, and be added."""


def measure(folder: Path) -> list[Figure]:
    """Measure on files of 10,000 nodes in a folder of its own."""
    (folder / "fsx/monitoring/targets").mkdir(parents=True)
    (folder / "run").mkdir()
    values = {"fsx.root": "fsx", "monitoring.state_dir": "state", "runtime_dir": "run"}
    config = Config({key: str(folder / name) for key, name in values.items()})
    slurm = SlurmAnswers(folder / "slurm", NODES)
    os.environ["PATH"] = f"{slurm.folder}{os.pathsep}{os.environ['PATH']}"
    both = [Exporter("node_exporter", 9100), Exporter("dcgm-exporter", 9400)]
    add_exporters(config["fsx.root"], Node("gpu-0", "bench"), "", both)
    unchanged_s, changed_s = sync_s(config, slurm)
    answer_ms, memory_mb = measure_serving(config)
    return [
        Figure.absolute(f"monitoring sync, {NODES} nodes, nothing changed", unchanged_s, "s", 1),
        Figure.absolute(f"monitoring sync, {NODES} nodes, {CHANGED} changed", changed_s, "s", 1.5),
        Figure.absolute(f"http_sd answer, {NODES} nodes", answer_ms, "ms", 100),
        Figure.absolute(f"monitoring serve, {NODES} nodes and jobs, memory at most", memory_mb, "MB", 100),
        Figure.absolute("registration in prolog, nothing changed", register_ms(config), "ms", 1),
    ]


def sync_s(config: Config, slurm: SlurmAnswers) -> tuple[float, float]:
    """Give a pass's median time where nothing, and where some nodes' labels, have changed: from asking to the end."""
    for _ in range(2):
        Sync(choose_client(), config).run()
    targets = Path(config["fsx.root"]) / "monitoring/targets"
    unchanged, changed = [], []
    for round_number in range(ROUNDS):
        before = _inodes(targets)
        unchanged.append(_timed_pass(config, 0))
        if _inodes(targets) != before:
            raise SystemExit("a sync without changes wrote files")
        for number in range(CHANGED):
            slurm.partitions[number * 97] = ["all", f"gpu{round_number}"]
        slurm.write_nodes()
        changed.append(_timed_pass(config, CHANGED))
        after = _inodes(targets)
        written = {name for name, inode in after.items() if before[name] != inode}
        if len(written) != CHANGED:
            raise SystemExit(f"a sync of {CHANGED} changes wrote {len(written)} files")
        Sync(choose_client(), config).run()
    return statistics.median(unchanged), statistics.median(changed)


def _timed_pass(config: Config, changes: int) -> float:
    before = time.perf_counter()
    done = len(Sync(choose_client(), config).run().done)
    elapsed = time.perf_counter() - before
    if done != changes:
        raise SystemExit(f"a sync made {done} changes instead of {changes}")
    return elapsed


def _inodes(folder: Path) -> dict[str, int]:
    with os.scandir(folder) as entries:
        return {entry.name: entry.inode() for entry in entries}


def measure_serving(config: Config) -> tuple[float, float]:
    """Give http_sd's median time, and the memory of a process that has taken overviews and served, in MB."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.monitoring", config["fsx.root"]],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"serving: {done.stderr}")
    answer_ms, memory_mb = json.loads(done.stdout)
    return answer_ms, memory_mb


def serve_and_measure(fsx_root: str) -> tuple[float, float]:
    """Take overviews and serve in this process, as ``monitoring serve`` does."""
    from slurm_fsx_tools.monitoring.on_head.overview import Observer, Other
    from slurm_fsx_tools.monitoring.on_head.status_page import render

    observer = Observer(
        choose_client(),
        Config({"fsx.root": fsx_root, "monitoring.prometheus_url": "http://127.0.0.1:9"}),
        lambda: Other([], {}, ""),
    )
    with Server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        for _ in range(3):
            overview = observer.look()
            document = Document("application/json", format_discovery(overview.targets or {}))
            page = Document("text/html", render(overview, "bench"))
            server.documents = {"/": page, "/targets": document}
        times = []
        for _ in range(ROUNDS * 4):
            before = time.perf_counter()
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
            connection.request("GET", "/targets")
            body = connection.getresponse().read()
            connection.close()
            times.append((time.perf_counter() - before) * 1000)
        if len(json.loads(body)) != 2 * NODES:
            raise SystemExit("http_sd did not give all targets")
        with open("/proc/self/status") as status:
            peak_kb = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
        server.shutdown()
    return statistics.median(times), peak_kb / 1000


def register_ms(config: Config) -> float:
    """Give the median time of a prolog's part in registration, in a process that holds no more than a prolog does."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _REGISTER, str(CHECKOUT), config["fsx.root"], config["runtime_dir"]],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"registration: {done.stderr}")
    return float(done.stdout)


if __name__ == "__main__":
    print(json.dumps(serve_and_measure(sys.argv[1])))
