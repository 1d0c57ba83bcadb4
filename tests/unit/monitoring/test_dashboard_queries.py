"""Every query of every dashboard, asked of a real Prometheus that scrapes what a cluster exports."""

from __future__ import annotations

import json
import math
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from lab.dcgm_exporter import ALL_IDLE
from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.counters import NOTHING
from slurm_fsx_tools.job import Job, Node
from slurm_fsx_tools.monitoring.dashboards.files import DASHBOARDS
from slurm_fsx_tools.monitoring.dashboards.model import Dashboard
from slurm_fsx_tools.monitoring.dashboards.places import OR_NONE
from slurm_fsx_tools.monitoring.metrics_file import write_metrics
from slurm_fsx_tools.monitoring.on_head.head_metrics import write_head_metrics, write_sync_metrics
from slurm_fsx_tools.monitoring.on_node.gpus import Gpu
from slurm_fsx_tools.monitoring.on_node.health_metrics import health_metrics
from slurm_fsx_tools.monitoring.on_node.job_info import write_job_info
from slurm_fsx_tools.monitoring.prometheus.configuration import PrometheusSetup
from slurm_fsx_tools.slurm_state import SlurmJob, SlurmNode

LAB = Path(__file__).parents[3] / "lab"
CLUSTER, NODE, JOB = "train", "n1", "7"
START_S = 30.0

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="the package prometheus is not installed")


def write_what_nodes_tell(folder: Path, runs: int) -> None:
    """Have the product's own writers tell of two jobs that share a GPU, and of prologs and epilogs.

    Args:
        folder: Has a folder for the node's node_exporter, and one for the head node's.
        runs: How many prologs and epilogs there were.
    """
    now_s = time.time()
    gpus = [Gpu("0", "GPU-0"), Gpu("1", "GPU-1")]
    node = Config({"monitoring.textfile_dir": str(folder / "node")})
    # Slurm 22.05 tells a prolog neither the account nor the name: the head node fills them in.
    ada = Job(JOB, 1001, "ada", "gpu", Node(NODE), account="physics", name='train "x"', container="pytorch")
    bob = Job("8", 1002, "bob", "gpu", Node(NODE))
    write_job_info(ada._replace(resolved_image="/fsx/containers/p.sqsh"), gpus, {"nccl": "2.27.3"}, node, now_s - 100)
    write_job_info(bob, gpus[1:], {}, node, now_s - 50)
    tally = NOTHING
    for _ in range(runs):
        tally = tally.add(0.05, failed=True)
    families = health_metrics({"prolog": tally, "epilog": tally}, misses=2)
    write_metrics(node["monitoring.textfile_dir"], "slurm_fsx_health", families, node["monitoring.label_limit"])

    head = Config({"monitoring.textfile_dir": str(folder / "head")})
    jobs = [
        SlurmJob(int(JOB), "ada", 1001, "physics", "gpu", 'train "x"', "running", NODE, 1, 2),
        SlurmJob(8, "bob", 1002, "art", "gpu", "draw", "running", NODE, 1, 1),
    ]
    nodes = [SlurmNode(NODE, "allocated"), SlurmNode("n2", "idle", "~")]
    write_head_metrics(head, nodes, jobs, 1, {"done": 4, "failed": 1}, now_s - 20)
    write_sync_metrics(head, success=True)


class Answers(NamedTuple):
    """A Prometheus that runs."""

    url: str

    def ask(self, path: str, **parameters: str) -> Any:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.url}{path}?{urllib.parse.urlencode(parameters)}", timeout=10) as answer:
            content = json.load(answer)
        assert content["status"] == "success"
        return content["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("/api/v1/query", query=expression)["result"]
        return found

    def label_values(self, selector: str, label: str) -> list[str]:
        found: list[str] = self.ask(f"/api/v1/label/{label}/values", **{"match[]": selector})
        return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answers]:
    """Two machines' exporters and a stand-in for a GPU's, and a Prometheus with the rules that are installed."""
    folder = tmp_path_factory.mktemp("prometheus")
    port, head, node, dcgm = (free_port() for _ in range(4))
    write_what_nodes_tell(folder, runs=3)
    gpus = []
    for gpu in range(2):
        labels = {
            "gpu": str(gpu),
            "UUID": f"GPU-{gpu}",
            "device": f"nvidia{gpu}",
            "modelName": "H100",
            "Hostname": NODE,
        }
        values = {**ALL_IDLE, "DCGM_FI_DEV_GPU_UTIL": 80 - gpu * 80, "DCGM_FI_DEV_XID_ERRORS": 79 * gpu}
        gpus.append({"labels": labels, "values": values})
    (folder / "gpus.json").write_text(json.dumps(gpus))
    setup = PrometheusSetup(Config(), CLUSTER, "head", rules_path=str(folder / "rules.yml"))
    (folder / "rules.yml").write_text(setup.format_rules())
    places = [
        (head, {"cluster": CLUSTER, "node": "head", "exporter": "node_exporter"}),
        (
            node,
            {
                "cluster": CLUSTER,
                "node": NODE,
                "partition": "gpu",
                "instance_type": "p5.48xlarge",
                "exporter": "node_exporter",
            },
        ),
        (
            dcgm,
            {
                "cluster": CLUSTER,
                "node": NODE,
                "partition": "gpu",
                "instance_type": "p5.48xlarge",
                "exporter": "dcgm-exporter",
            },
        ),
    ]
    scrape = {
        "job_name": "slurm-fsx",
        "honor_labels": True,
        "static_configs": [{"targets": [f"127.0.0.1:{at}"], "labels": labels} for at, labels in places],
    }
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s", "scrape_timeout": "1s"},
        "rule_files": [setup.rules_path],
        "scrape_configs": [scrape],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    commands = [
        *(
            [
                "prometheus-node-exporter",
                f"--web.listen-address=127.0.0.1:{at}",
                f"--collector.textfile.directory={folder / name}",
            ]
            for name, at in (("head", head), ("node", node))
        ),
        [sys.executable, str(LAB / "dcgm_exporter.py"), "127.0.0.1", str(dcgm), str(folder / "gpus.json")],
        [
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
    ]
    answers = Answers(f"http://127.0.0.1:{port}")
    processes: list[subprocess.Popen[bytes]] = []
    with open(folder / "log", "wb") as log:
        try:
            processes += [subprocess.Popen(command, stdout=log, stderr=log) for command in commands]
            wait_for(lambda: len(answers.query("up == 1")) == 3, folder / "log")
            write_what_nodes_tell(folder, runs=5)
            # Once rules have been evaluated on rates, which take two samples, all is there.
            wait_for(lambda: bool(answers.query("slurm_fsx:job_cpu_utilization")), folder / "log")
            wait_for(
                lambda: bool(answers.query("rate(slurm_fsx_prolog_duration_seconds_count[30m]) > 0")), folder / "log"
            )
            wait_for(lambda: bool(answers.query('ALERTS{alertstate="firing"}')), folder / "log")
            yield answers
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()


def wait_for(condition: Any, log: Path) -> None:
    end = time.monotonic() + START_S
    while True:
        try:
            if condition():
                return
        except OSError:
            pass  # it is not listening yet
        assert time.monotonic() < end, log.read_text(errors="replace")[-2000:]
        time.sleep(0.2)


def values(dashboard: Dashboard, prometheus: Answers) -> dict[str, str]:
    """Choose a value for each variable as Grafana would: of those that Prometheus has."""
    chosen: dict[str, str] = {}
    mounts = prometheus.label_values('node_filesystem_size_bytes{node="n1"}', "mountpoint")
    wanted = {"cluster": CLUSTER, "node": NODE, "job": JOB, "fsx": mounts[0]}
    for variable in dashboard.variables:
        if variable.query:
            match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable.query)
            assert match
            offered = prometheus.label_values(substitute(match[1], chosen), match[2])
            assert offered, f"{variable.name} has no values to choose from"
            if not variable.several:
                assert wanted[variable.name] in offered
        chosen[variable.name] = ".*" if variable.several else wanted[variable.name]
    return chosen


def substitute(expression: str, chosen: dict[str, str]) -> str:
    for name, value in {**chosen, "__rate_interval": "5s"}.items():
        expression = expression.replace(f"${name}", value)
    assert "$" not in expression
    return expression


QUERIES = [
    pytest.param(dashboard, panel.columns, query.expression, id=f"{dashboard.uid}-{row.title}-{panel.title}-{number}")
    for dashboard in DASHBOARDS
    for row in dashboard.rows
    for panel in row.panels
    for number, query in enumerate(panel.queries)
]


@pytest.mark.parametrize(("dashboard", "columns", "expression"), QUERIES)
def test_every_query_has_an_answer(
    prometheus: Answers, dashboard: Dashboard, columns: tuple[tuple[str, Any], ...], expression: str
) -> None:
    expression = substitute(expression, values(dashboard, prometheus))
    expression = expression.removesuffix(OR_NONE)  # it would hide that there is nothing
    found = prometheus.query(expression)
    assert found, expression
    assert not [series for series in found if math.isnan(float(series["value"][1]))], expression
    series = [json.dumps(entry["metric"], sort_keys=True) for entry in found]
    assert len(set(series)) == len(series)
    if columns:
        assert {label for entry in found for label in entry["metric"]} <= {name for name, _ in columns} | {"UUID"}


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.uid)
def test_legends_name_labels_that_the_answers_have(prometheus: Answers, dashboard: Dashboard) -> None:
    chosen = values(dashboard, prometheus)
    for row in dashboard.rows:
        for panel in row.panels:
            for query in panel.queries:
                named = set(re.findall(r"{{(\w+)}}", query.legend))
                linked = set(re.findall(r"__field\.labels\.(\w+)", panel.link))
                for entry in prometheus.query(substitute(query.expression, chosen)):
                    assert named | linked <= set(entry["metric"]), panel.title


def test_the_numbers_are_what_was_exported(prometheus: Answers) -> None:
    job = next(board for board in DASHBOARDS if board.uid == "slurm-fsx-job")
    chosen = values(job, prometheus)
    by_title = {
        (row.title, panel.title): prometheus.query(substitute(panel.queries[0].expression, chosen))
        for row in job.rows
        for panel in row.panels
    }
    busy = {entry["metric"]["gpu"]: float(entry["value"][1]) for entry in by_title["GPUs", "Utilisation"]}
    assert busy == {"0": 0.8, "1": 0.0}
    assert [float(entry["value"][1]) for entry in by_title["Now", "GPUs"]] == [1.5]  # job 8 has half of one
    assert [float(entry["value"][1]) for entry in by_title["Now", "Idle GPUs"]] == [1.0]
    assert [entry["metric"]["job_name"] for entry in by_title["Now", "Job"]] == ['train "x"']


def test_a_user_who_has_no_job_sees_none(prometheus: Answers) -> None:
    board = next(board for board in DASHBOARDS if board.uid == "slurm-fsx-cluster")
    chosen = {**values(board, prometheus), "user": "nobody"}
    jobs = next(panel for row in board.rows for panel in row.panels if panel.title == "Jobs")
    assert [entry["value"][1] for entry in prometheus.query(substitute(jobs.queries[0].expression, chosen))] == ["0"]
