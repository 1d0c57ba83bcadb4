"""Prolog, epilog and task prolog as whole processes, inside a node of a private cluster."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lab.cluster import CHECKOUT, HOME, Cluster
from lab.dcgm import MAPPING, DcgmExporter
from lab.nccl import install_nccl, install_version, use_version
from lab.prometheus import start_node_exporter
from slurm_fsx_tools.job import Job

from .calls import STRACE, count_below
from .figures import Figure

if TYPE_CHECKING:
    from pathlib import Path

ROUNDS = 41
GPUS = 8
PYTHON = f"{HOME}/bin/python3"
SHARE = f"{HOME}/share/slurm-fsx"
FLOOR = [PYTHON, "-I", "-c", "pass"]
VERSION = "2.28.7-1_ofi-1.17.2-aws"
ENVIRONMENT = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_UID": "2001",
    "SLURM_JOB_USER": "ada",
    "SLURM_JOB_PARTITION": "all",
    "SLURM_JOB_GPUS": "0,1,2,3,4,5,6,7",
    "SLURMD_NODENAME": "n1",
    "SLURM_CLUSTER_NAME": "lab",
}


def measure(folder: Path) -> list[Figure]:
    """Measure a GPU job, on a node with an NCCL installation that the last prolog knew, and registered targets."""
    with Cluster.start(folder, nodes=1, installation=CHECKOUT / ".venv") as cluster:
        DcgmExporter.start(cluster.nodes["n1"], gpus=GPUS)
        install_nccl(cluster.fsx)
        (cluster.fsx / "monitoring/targets").mkdir(parents=True)
        prolog = [f"{SHARE}/prolog.d/50-slurm-fsx"]
        epilog = [f"{SHARE}/epilog.d/50-slurm-fsx"]
        task_prolog = [f"{SHARE}/task_prolog.d/slurm-fsx"]
        start_node_exporter(cluster.nodes["n1"])
        # One that is still starting is left alone for minutes by prologs, and waited for by this.
        cluster.run_on("n1", [f"{HOME}/bin/slurm-fsx", "monitoring", "register"])
        cluster.run_on("n1", prolog, env=ENVIRONMENT)
        check_work(cluster)
        calls = count_calls(cluster, prolog)
        task = medians(cluster, {"task": task_prolog, "floor": ["/bin/sh", "-c", ":"]})
        # Each epilog after a prolog of its job: one that finds nothing to remove would be no measure.
        node = medians(cluster, {"prolog": prolog, "epilog": epilog, "floor": FLOOR})
        install_version(cluster.fsx, VERSION)
        use_version(cluster.fsx, VERSION)
        cluster.run_on("n1", prolog, env=ENVIRONMENT)
        check_work(cluster, f"/fsx/nccl/versions/{VERSION}/lib")
        marker = Job.from_environment(ENVIRONMENT).marker
        if not (cluster.fsx / "nccl/.uses" / VERSION / marker).exists():
            raise SystemExit("the prolog did not mark the version as used")
        own_calls = count_calls(cluster, prolog)
        own = medians(cluster, {"prolog": prolog, "epilog": epilog, "floor": FLOOR})
        cluster.write_on_all("/etc/slurm-fsx/config.yaml", f"monitoring: {{gpu_mapping_dir: {MAPPING}}}\n")
        cluster.run_on("n1", prolog, env=ENVIRONMENT)
        if len(list(cluster.machine("n1").path(MAPPING).glob("[0-9]"))) != GPUS:
            raise SystemExit("the prolog did not write dcgm-exporter's mapping")
        mapped = medians(cluster, {"prolog": prolog, "epilog": epilog, "floor": FLOOR})
    return [
        Figure.against_floor("prolog, whole process", node["prolog"], node["floor"], "ms", 4),
        Figure.against_floor("epilog, whole process", node["epilog"], node["floor"], "ms", 4),
        Figure.against_floor("task prolog script", task["task"], task["floor"], "ms", 3),
        Figure.absolute("calls under /fsx in a prolog", calls, "", 5),
        Figure.against_floor("prolog, with a version of ours", own["prolog"], own["floor"], "ms", 4),
        Figure.absolute("calls under /fsx, with a version of ours", own_calls, "", 5),
        Figure.against_floor("prolog, with dcgm-exporter's mapping", mapped["prolog"], mapped["floor"], "ms", 4),
        Figure.against_floor("epilog, with dcgm-exporter's mapping", mapped["epilog"], mapped["floor"], "ms", 4),
    ]


def check_work(cluster: Cluster, expected: str = "NCCL_DEBUG") -> None:
    """A prolog that does nothing ends well too, and is fast: see that this one did its work."""
    node = cluster.machine("n1")
    environment = node.path(f"/run/slurm-fsx/jobs/{ENVIRONMENT['SLURM_JOB_ID']}.env")
    targets = cluster.fsx / "monitoring/targets/n1.json"
    metrics = node.path(f"/var/lib/prometheus/node-exporter/slurm_fsx_job_{ENVIRONMENT['SLURM_JOB_ID']}.prom")
    if not (metrics.exists() and environment.exists() and expected in environment.read_text() and targets.exists()):
        raise SystemExit(f"the prolog did not do its work:\n{node.syslog}")


def medians(cluster: Cluster, argvs: dict[str, list[str]]) -> dict[str, float]:
    """Time commands in turn; give their medians in ms."""
    commands = {name: [argv, ENVIRONMENT] for name, argv in argvs.items()}
    done = cluster.run_on(
        "n1", ["/bin/sh", "-c", f"cd {CHECKOUT} && exec {PYTHON} -m bench.pairs {ROUNDS}"], input=json.dumps(commands)
    )
    if done.returncode != 0:
        raise SystemExit(f"{', '.join(argvs)}: {done.stderr}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def count_calls(cluster: Cluster, argv: list[str]) -> int:
    """Count the system calls of a command, children included, that name a path below /fsx."""
    done = cluster.run_on("n1", [*STRACE, *argv], env=ENVIRONMENT)
    return count_below(done.stderr, "/fsx")
