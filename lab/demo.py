"""``make demo``: the main job on a private cluster, start to end, and a report of what happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .cluster import HOME, Cluster, Job
from .dcgm import DcgmExporter
from .errors import LabError
from .images import make_image
from .nccl import VERSION, install_nccl
from .node import CHECKOUT
from .prometheus import TARGETS, Prometheus, Sample, Target, package_database

OLDER, NEWEST = IMAGES = ("nvcr.io_nvidia_pytorch-24.01-py3", "nvcr.io_nvidia_pytorch-24.03-py3")
IN_CONTAINER = CHECKOUT / "examples/pytorch.sbatch"
ON_HOST = CHECKOUT / "examples/host-script.sbatch"
# What the report promises; the rest of what a task saw is shown only.
EXPECTED = {
    "PRETTY_NAME": f'"{NEWEST}"',
    "SLURM_FSX_CONTAINER_IMAGE": f"/fsx/containers/{NEWEST}.sqsh",
    "FI_PROVIDER": "efa",
    "LD_LIBRARY_PATH": "/fsx/nccl/lib:/usr/local/lib",
    "NCCL_DEBUG": "INFO",
    "NCCL_VERSION": VERSION,
}

_GPUS = 2
_BUSY_PERCENT = 87
# Nobody waits for a minute in a demo.
_IMPATIENCE = "monitoring: {scrape_interval: 1, refresh_interval: 1}\n"
_MEANINGS = {"default": "unless the user sets it", "prepend": "in front of what is there"}
_PLUGSTACK = f"optional {HOME}/lib/slurm/spank_slurm_fsx.so runtime=bwrap"
# Stands in prolog.d and epilog.d: the epilog removes the job's environment file, and Slurm logs whole seconds.
_OBSERVER = """\
#!/bin/sh
# Runs the installed {act}, and notes for the report when it ran and what it wrote.
set -u
PATH=/usr/bin:/bin
notes=/var/log/demo/$SLURM_JOB_ID
mkdir -p "$notes"
date +%s.%N >"$notes/{act}.begin"
{home}/share/slurm-fsx/{act}.d/50-slurm-fsx
code=$?
date +%s.%N >"$notes/{act}.end"
[ {act} = epilog ] || cp "/run/slurm-fsx/jobs/$SLURM_JOB_ID.env" "$notes/env"
exit "$code"
"""


class Observation(NamedTuple):
    """What a node noted of a job; times in seconds since the epoch."""

    prolog_begin: float
    prolog_end: float
    epilog_begin: float
    epilog_end: float
    environment: str  # the job's environment file

    @classmethod
    def of(cls, cluster: Cluster, node: str, job: Job) -> Observation:
        """Read a node's notes.

        Raises:
            LabError: prolog or epilog did not run there, or wrote no environment.
        """
        notes = cluster.nodes[node].log / "demo" / str(job.id)

        def time_of(name: str) -> float:
            return float((notes / name).read_text())

        try:
            return cls(
                time_of("prolog.begin"),
                time_of("prolog.end"),
                time_of("epilog.begin"),
                time_of("epilog.end"),
                (notes / "env").read_text(),
            )
        except FileNotFoundError as error:
            raise LabError(f"job {job.id} left no {Path(error.filename).name} on {node}\n{cluster.report()}") from None


class GpuUse(NamedTuple):
    """What Prometheus knew of a GPU while a job had it, and whether it was gone with the job."""

    job: Job
    query: str
    answer: Sample
    is_gone: bool

    @classmethod
    def of(cls, cluster: Cluster, prometheus: Prometheus, dcgm: DcgmExporter) -> GpuUse:
        """Run a job on a GPU of n1 that is pretended to be busy, ask, and end the job.

        Raises:
            LabError: Prometheus did not come to know of it.
        """
        job = cluster.sbatch("#!/bin/sh\nexec sleep 600\n", "--gres=gpu:1", "--nodelist=n1")
        dcgm.set(0, DCGM_FI_DEV_GPU_UTIL=_BUSY_PERCENT)
        query = 'slurm_fsx:job_gpu_utilization{node="n1", gpu="0"}'
        cluster.wait_until(
            lambda: [sample.value for sample in prometheus.query(query)] == [_BUSY_PERCENT / 100],
            "Prometheus knows which job uses the GPU",
        )
        [answer] = prometheus.query(query)
        cluster.cancel(job)
        try:
            cluster.wait_until(lambda: not prometheus.query(query), "Prometheus has forgotten the job")
        except LabError:
            return cls(job, query, answer, False)
        return cls(job, query, answer, True)


class Demo:
    """One run: what took how long, and what did not hold.

    Attributes:
        failures: A sentence for each part that did not do what it should.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.failures: list[str] = []
        self.stage = ""
        self._seconds: dict[str, float] = {}

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Time a block, and say that it goes on."""
        self.stage = stage
        before = time.monotonic()
        with self.console.status(stage):
            yield
        self._seconds[stage] = time.monotonic() - before

    def expect(self, held: bool, failure: str) -> None:
        """Note a failure where something did not hold; the others are still looked at."""
        if not held:
            self.failures.append(failure)

    def run(self, folder: Path) -> None:
        """Do what an admin and two users' scripts do, and report it."""
        with self.timed("start a Slurm cluster of two nodes"):
            cluster = start_cluster(folder)
        with cluster:
            with self.timed("fill /fsx, set Prometheus up"):
                fill_fsx(cluster)
                cluster.head.write("/etc/slurm-fsx/config.yaml", _IMPATIENCE)
                dcgm = {name: DcgmExporter.start(node, _GPUS) for name, node in cluster.nodes.items()}
                prometheus = Prometheus.install(cluster)
            with self.timed("submit two scripts"):
                inside = cluster.sbatch(IN_CONTAINER.read_text())
                outside = cluster.sbatch(ON_HOST.read_text())
            with self.timed("run them, prologs and epilogs included"):
                states = {job.id: cluster.wait(job) for job in (inside, outside)}
            with self.timed("see both nodes in Prometheus"):
                exporters = 2 * len(cluster.nodes)
                cluster.wait_until(
                    lambda: [target.is_up for target in prometheus.targets()] == [True] * exporters,
                    "node_exporter and dcgm-exporter of both nodes up in Prometheus",
                )
                targets = prometheus.targets()
            with self.timed("run a job on a GPU, and ask Prometheus for it"):
                gpu_use = GpuUse.of(cluster, prometheus, dcgm["n1"])
            self.stage = "report"
            seen = {name: Observation.of(cluster, name, inside) for name in cluster.nodes}
            self.report_job(cluster, inside, states[inside.id])
            self.report_variables(inside, next(iter(seen.values())).environment)
            self.report_host_script(cluster, outside, states[outside.id])
            self.report_files(cluster, inside, seen)
            self.report_targets(targets)
            self.report_gpu_use(gpu_use)
            self.report_times(seen)

    def report_job(self, cluster: Cluster, job: Job, state: str) -> None:
        """Say which job it was."""
        [record] = cluster.show_job(job)
        image = printed(job).get("SLURM_FSX_CONTAINER_IMAGE", "none")
        self.expect(state == "COMPLETED", f"{IN_CONTAINER.name} is {state}; it printed: {job.output.strip()}")
        self.expect(record["NumNodes"] == "2", f"{IN_CONTAINER.name} ran on {record['NodeList']}, not on two nodes")
        self.rule(f"ada's {IN_CONTAINER.relative_to(CHECKOUT)}")
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(style="bold")
        table.add_row("asks for", "#SBATCH --container-name=pytorch")
        table.add_row("job", f"{job.id}, {state}, on {', '.join(cluster.nodes)}")
        table.add_row("image", image)
        table.add_row("runs on", f"Slurm {cluster.release[0]}.{cluster.release[1]:02}, containers by bubblewrap")
        self.console.print(table)

    def report_variables(self, job: Job, environment: str) -> None:
        """Show what the prolog wrote beside what a task saw of it, as its own output has it."""
        values = printed(job)
        for name, value in EXPECTED.items():
            self.expect(values.get(name) == value, f"the task saw {name}={values.get(name)}, not {value}")
        meanings = dict(read_operation(line) for line in environment.splitlines()[1:])
        table = self.table("variable", "inside the container", "as the prolog wrote it")
        for name in sorted(values):
            if name in meanings:
                table.add_row(name, escape(values[name]), meanings[name])
        self.console.print()
        self.console.print(table)

    def report_host_script(self, cluster: Cluster, job: Job, state: str) -> None:
        """Show that a script on the host may have steps in containers."""
        lines = job.output.splitlines()
        hosts = sorted(set(lines) & set(cluster.nodes))
        images = lines.count(f'PRETTY_NAME="{OLDER}"')
        self.expect(state == "COMPLETED", f"{ON_HOST.name} is {state}; it printed: {job.output.strip()}")
        self.expect(hosts == list(cluster.nodes), f"the step on the host ran on {hosts}")
        self.expect(images == 2, f"{images} of 2 tasks of --container-name=pytorch-24.01 ran in {OLDER}")
        self.rule(f"ada's {ON_HOST.relative_to(CHECKOUT)}")
        table = self.table("step", "ran in")
        table.add_row("srun hostname", f"the host: {', '.join(hosts)}")
        table.add_row("srun --container-name=pytorch-24.01", f"{OLDER} ({images} tasks)")
        self.console.print(table)

    def report_files(self, cluster: Cluster, job: Job, seen: dict[str, Observation]) -> None:
        """Show what was written, and whether it was cleaned up."""
        table = self.table("file", "content")
        for name, observation in seen.items():
            path = f"/run/slurm-fsx/jobs/{job.id}.env"
            left = cluster.nodes[name].path(path).exists()
            self.expect(not left, f"{path} is still on {name} after the job")
            count = len(observation.environment.splitlines()) - 1
            table.add_row(f"{name}:{path}", f"{count} operations; {'still there!' if left else 'gone with the job'}")
        for name in cluster.nodes:
            written = (cluster.fsx / TARGETS[len("/fsx/") :] / f"{name}.json").exists()
            self.expect(written, f"there is no {TARGETS}/{name}.json")
            table.add_row(f"{TARGETS}/{name}.json", "its exporters, for Prometheus" if written else "missing!")
        table.add_row("/fsx/containers/.slurm-fsx/index", "names of images, for sbatch and srun")
        self.rule("files written")
        self.console.print(table)

    def report_targets(self, targets: list[Target]) -> None:
        """Show what Prometheus scrapes."""
        table = self.table("node", "exporter", "address", "health")
        for target in targets:
            health = "[green]up[/]" if target.is_up else "[red]down[/]"
            table.add_row(target.labels["node"], target.labels["exporter"], target.instance, health)
        self.rule("what Prometheus sees")
        self.console.print(table)

    def report_gpu_use(self, use: GpuUse) -> None:
        """Show what Prometheus said of a GPU that a job had."""
        self.expect(use.is_gone, f"Prometheus still has job {use.job.id}, which has ended")
        labels = use.answer.labels
        self.expect(labels["jobid"] == str(use.job.id), f"the GPU's job is {labels['jobid']}, not {use.job.id}")
        self.rule("which job uses this GPU, at what utilisation")
        self.console.print(use.query, markup=False, soft_wrap=True)
        table = self.table("job", "user", "node", "GPU", "UUID", "utilisation")
        table.add_row(
            labels["jobid"], labels["user"], labels["node"], labels["gpu"], labels["UUID"], f"{use.answer.value:.0%}"
        )
        self.console.print(table)
        self.console.print("The GPUs are made up, and a stand-in for dcgm-exporter tells of them; all else is real.")

    def report_times(self, seen: dict[str, Observation]) -> None:
        """Show what took how long."""
        table = self.table("stage", "seconds")
        table.columns[1].justify = "right"
        for stage, seconds in self._seconds.items():
            table.add_row(stage, f"{seconds:.2f}")
            if stage.startswith("run them"):
                prolog = max(one.prolog_end - one.prolog_begin for one in seen.values())
                task = max(one.epilog_begin for one in seen.values()) - max(one.prolog_end for one in seen.values())
                epilog = max(one.epilog_end - one.epilog_begin for one in seen.values())
                table.add_row("  of the first: prolog, the slower node", f"{prolog:.2f}")
                table.add_row("  of the first: container and script", f"{task:.2f}")
                table.add_row("  of the first: epilog, the slower node", f"{epilog:.2f}")
        self.rule("time")
        self.console.print(table)

    def rule(self, title: str) -> None:
        """Begin a part of the report."""
        self.console.print()
        self.console.rule(f"[bold]{title}[/]", align="left")

    def table(self, *headers: str) -> Table:
        """Make a table in the report's one style; what is too wide is folded, never cut."""
        table = Table(box=None, pad_edge=False, header_style="dim")
        for header in headers:
            table.add_column(header, overflow="fold")
        return table


def start_cluster(folder: Path) -> Cluster:
    """Start two nodes that have the product as a site installs it, seen by the observers."""
    scripts = {}
    for act in ("prolog", "epilog"):
        scripts[act] = folder / f"{act}-observer" / "50-slurm-fsx"
        scripts[act].parent.mkdir()
        scripts[act].write_text(_OBSERVER.format(act=act, home=HOME))
    return Cluster.start(
        folder,
        nodes=2,
        installation=CHECKOUT / ".venv",
        plugstack=[_PLUGSTACK],
        prolog=[scripts["prolog"]],
        epilog=[scripts["epilog"]],
        gpus=_GPUS,
        binds=[package_database()],
    )


def fill_fsx(cluster: Cluster) -> None:
    """Make what a head node's set-up makes: images with their index, and an NCCL installation."""
    for name in IMAGES:
        make_image(cluster.fsx / "containers" / f"{name}.sqsh")
    install_nccl(cluster.fsx)
    (cluster.fsx / TARGETS[len("/fsx/") :]).mkdir(parents=True)
    done = cluster.run_on("head", [f"{HOME}/bin/slurm-fsx", "containers", "index"])
    if done.returncode != 0:
        raise LabError(f"slurm-fsx containers index: {done.stderr.strip()}")


def printed(job: Job) -> dict[str, str]:
    """Read the variables that a job has printed."""
    return dict(line.split("=", 1) for line in job.output.splitlines() if "=" in line)


def read_operation(line: str) -> tuple[str, str]:
    """Read a line of the job's environment file, ``[SCOPE ]VERB NAME=VALUE``: the variable, and what happens to it."""
    *_, verb, name = line.partition("=")[0].split(" ")
    return name, _MEANINGS.get(verb, verb)


def main() -> int:
    """Run the demo; give the exit code."""
    console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    demo = Demo(console)
    try:
        with tempfile.TemporaryDirectory(prefix="slurm-fsx-demo-") as folder:
            os.chmod(folder, 0o755)
            demo.run(Path(folder))
    except (LabError, subprocess.SubprocessError, OSError) as error:
        demo.failures.append(f"{demo.stage}: {error}")
    except KeyboardInterrupt:
        console.print("Stopped; nothing of it is left.")
        return 130
    console.print()
    if demo.failures:
        console.print("[bold red]The demo failed:[/]")
        for failure in demo.failures:
            console.print(f"- {failure}", markup=False, soft_wrap=True)
        return 1
    console.print("[bold green]All of it held.[/] The cluster was private to this run, and nothing of it is left.")
    console.print("Next: [bold]make test[/] tries everything else; “For admins” in README.md installs it.")
    return 0


def _end(number: int, frame: FrameType | None) -> None:
    """Unwind, so that the cluster and its folder go."""
    sys.exit(128 + number)


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("make demo: a private cluster takes namespaces and mounts: run as root")
    sys.exit(main())
