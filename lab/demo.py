"""``make demo``: the main job on a private cluster, start to end, and a report of what happened."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from .cluster import HOME, Cluster
from .errors import LabError
from .images import make_image
from .nccl import install_nccl
from .node import CHECKOUT
from .prometheus import Prometheus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .cluster import Job
    from .prometheus import Target

COMMAND = f"{HOME}/bin/slurm-fsx"
PLUGSTACK = f"optional {HOME}/lib/slurm/spank_slurm_fsx.so runtime=bwrap"
IMAGES = ("nvcr.io_nvidia_pytorch-24.01-py3", "nvcr.io_nvidia_pytorch-24.03-py3", "nvcr.io_nvidia_nemo-24.01")
SCRIPT = CHECKOUT / "examples/pytorch.sbatch"
# For the report: which image it is, and time to look at what the prolog wrote while the job runs.
SHOW_AND_WAIT = "\nenv | grep SLURM_FSX_\nwhile [ ! -e ~/go ]; do sleep 0.1; done\n"
SHOWN = ("FI_", "NCCL_", "LD_LIBRARY_PATH", "LIBRARY_PATH")


class Stages:
    """What took how long."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block, and say that it goes on."""
        before = time.monotonic()
        with self._console.status(name):
            yield
        self.seconds[name] = time.monotonic() - before


def main() -> int:
    """Run the demo; give the exit code."""
    console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
    folder = Path(tempfile.mkdtemp(prefix="slurm-fsx-demo-"))
    folder.chmod(0o755)
    stages = Stages(console)
    try:
        with stages.stage("start a Slurm cluster of two nodes"):
            share = CHECKOUT / ".venv/share/slurm-fsx"
            cluster = Cluster.start(
                folder,
                nodes=2,
                installation=CHECKOUT / ".venv",
                plugstack=[PLUGSTACK],
                prolog=[share / "prolog.d/50-slurm-fsx"],
                epilog=[share / "epilog.d/50-slurm-fsx"],
            )
        with cluster:
            run(cluster, console, stages)
    except LabError as error:
        console.print(f"[bold red]The demo failed:[/] {error}", soft_wrap=True)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    console.print(
        "\nEverything was private to this run, and is gone. Next: [bold]make test[/], and “For admins” in README.md."
    )
    return 0


def run(cluster: Cluster, console: Console, stages: Stages) -> None:
    """Do what an admin and a user do, and report it."""
    with stages.stage("fill /fsx: images, NCCL, the catalogue's index"):
        fill_fsx(cluster)
        prometheus = Prometheus.start(cluster)
    with stages.stage("submit, run the prologs, start the containers"):
        job = cluster.sbatch(SCRIPT.read_text() + SHOW_AND_WAIT)
        cluster.wait_until(lambda: "SLURM_FSX_" in job.output, "the job running")
    files = {name: node.path(f"/run/slurm-fsx/jobs/{job.id}.env").read_text() for name, node in cluster.nodes.items()}
    with stages.stage("see both nodes in Prometheus"):
        cluster.wait_until(lambda: prometheus.up() == set(cluster.nodes), "both nodes up in Prometheus")
        targets = prometheus.targets()
    with stages.stage("end the job, run the epilogs"):
        cluster.home("ada").joinpath("go").touch()
        state = cluster.wait(job)
    report_job(console, cluster, job, state)
    report_variables(console, job)
    report_files(console, cluster, job, files)
    report_targets(console, targets)
    report_stages(console, stages)
    if state != "COMPLETED":
        raise LabError(f"the job is {state}: {job.output}")


def fill_fsx(cluster: Cluster) -> None:
    """Make what a head node's set-up makes: images with their index, and an NCCL installation."""
    for name in IMAGES:
        make_image(cluster.fsx / "containers" / f"{name}.sqsh")
    install_nccl(cluster.fsx)
    (cluster.fsx / "monitoring/targets").mkdir(parents=True)
    done = cluster.run_on("head", [COMMAND, "containers", "index"])
    if done.returncode != 0:
        raise LabError(f"slurm-fsx containers index: {done.stderr}")


def report_job(console: Console, cluster: Cluster, job: Job, state: str) -> None:
    """Say which job it was."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_row("script", f"examples/{SCRIPT.name}, as user ada: #SBATCH --container-name=pytorch")
    table.add_row("job", f"{job.id}, {state.lower()}, on {', '.join(cluster.nodes)}")
    table.add_row("image", printed(job)["SLURM_FSX_CONTAINER_IMAGE"])
    release = ".".join(f"{number:02}" for number in cluster.release)
    table.add_row("Slurm", f"{release}, containers by bubblewrap")
    console.rule("the job", align="left")
    console.print(table)


def report_variables(console: Console, job: Job) -> None:
    """Show what a task saw, as its own output has it."""
    table = Table("variable", "value, inside the container", box=None, pad_edge=False)
    for name, value in sorted(printed(job).items()):
        if name.startswith(SHOWN):
            table.add_row(name, value)
    console.print()
    console.rule("what the task saw", align="left")
    console.print(table)


def printed(job: Job) -> dict[str, str]:
    """Read the variables that the job has printed."""
    return dict(line.split("=", 1) for line in job.output.splitlines() if "=" in line)


def report_files(console: Console, cluster: Cluster, job: Job, files: dict[str, str]) -> None:
    """Show what was written, and whether it was cleaned up."""
    table = Table("file", "content", box=None, pad_edge=False)
    for name, text in files.items():
        left = cluster.nodes[name].path(f"/run/slurm-fsx/jobs/{job.id}.env").exists()
        fate = "still there!" if left else "gone with the job"
        table.add_row(f"{name}:/run/slurm-fsx/jobs/{job.id}.env", f"{len(text.splitlines()) - 1} operations; {fate}")
    for path in sorted((cluster.fsx / "monitoring/targets").iterdir()):
        table.add_row(f"/fsx/monitoring/targets/{path.name}", "the node's exporters, for Prometheus")
    table.add_row("/fsx/containers/.slurm-fsx/index", "names and images, for sbatch and srun")
    console.print()
    console.rule("files written", align="left")
    console.print(table)


def report_targets(console: Console, targets: list[Target]) -> None:
    """Show what Prometheus scrapes."""
    table = Table("node", "exporter", "address", "health", box=None, pad_edge=False)
    for target in targets:
        labels = target.labels
        table.add_row(labels["node"], labels["exporter"], target.instance, "up" if target.is_up else "down")
    console.print()
    console.rule("what Prometheus sees", align="left")
    console.print(table)


def report_stages(console: Console, stages: Stages) -> None:
    """Show what took how long."""
    table = Table("stage", "s", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for name, seconds in stages.seconds.items():
        table.add_row(name, f"{seconds:.2f}")
    console.print()
    console.rule("time", align="left")
    console.print(table)


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("make demo: a private cluster takes namespaces and mounts: run as root")
    sys.exit(main())
