"""``slurm-fsx nccl test|history``: the bandwidth between GPUs, now and before."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from ...errors import SlurmFsxError, SlurmUnavailable
from ...nccl import history as runs
from ...nccl.bandwidth import BandwidthTestFailed, check, parse
from ...nccl.manifest import CURRENT, is_version_id, version_folder
from ...nccl.plot import Line, draw, short_size
from ...node.journal import printable
from ...node_sets import expand, fold
from ...pictures import check_kind
from ...shared_fs import SharedFs
from ...slurm.choice import choose_client
from ...slurm.srun import run_on_gpus
from ..containers.text import date, load_config, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...config.model import Config
    from ...nccl.bandwidth import Report
    from ...slurm_state import SlurmNode

PROGRAM = "all_reduce_perf"
ARGUMENTS = ("-b", "8", "-e", "128M", "-f", "2", "-g", "1")
_DRAWN_BEFORE = 5
_LIMIT_S = 600.0


class NodeCount(click.IntRange):
    """A number of nodes; other commands' --nodes takes a set of them."""

    def __init__(self) -> None:
        super().__init__(1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the number; where a set of nodes is given, say which option takes it."""
        if isinstance(value, str) and not value.lstrip("+-").isdigit():
            self.fail(f"{value!r} is no number; for certain nodes write --nodelist {shlex.quote(value)}", param, ctx)
        return super().convert(value, param, ctx)


@click.command()
@click.argument("version_id", required=False, metavar="[ID]")
@click.option("--nodes", "count", type=NodeCount(), default=2, show_default=True, metavar="N", help="How many nodes.")
@click.option("--nodelist", metavar="NODESET", help="These nodes, as n[1-3,7].")
@click.option("--partition", default="", metavar="NAME", help="Slurm's partition; the nodes' own unless given.")
@click.option(
    "--gpus", type=click.IntRange(1), metavar="N", help="GPUs of each node; all that Slurm knows of unless given."
)
@click.option("--mpi", metavar="TYPE", help="How srun starts MPI programs, e.g. pmix; Slurm's MpiDefault unless given.")
@click.option(
    "--timeout",
    type=click.FloatRange(60, 3600),
    default=_LIMIT_S,
    show_default=True,
    metavar="SECONDS",
    help="How long it may run.",
)
@click.option("--plot", "picture", metavar="FILE", help="Draw it, with earlier runs, to FILE.png or FILE.svg.")
@click.option("--json", "as_json", is_flag=True, help="Print an object.")
def test(
    version_id: str | None,
    count: int,
    nodelist: str | None,
    partition: str,
    gpus: int | None,
    mpi: str | None,
    timeout: float,
    picture: str | None,
    as_json: bool,
) -> None:
    """Measure the bandwidth between the GPUs of some nodes.

    Runs all_reduce_perf -b 8 -e 128M -f 2 -g 1 of version ID, or of the current one, as a job with one task for each
    GPU, waits for it, and shows the bus bandwidth by message size. It is kept in FSX/logs/nccl/history.jsonl and
    compared with the median of earlier runs over as many nodes and GPUs: a slow node shows.

    Exits with 1 if nothing was measured, or values were wrong, or it is slower than 90 % of that median.
    """
    config = load_config().config
    if picture is not None:
        check_kind(picture)
    version, program = _program(config, version_id)
    nodes, each, partition = _choose(count, nodelist, partition, gpus)
    options = [*([f"--mpi={mpi}"] if mpi else []), *([f"--nccl={version_id}"] if version_id else [])]
    command = run_on_gpus(
        [program, *ARGUMENTS],
        nodes=nodes,
        gpus_per_node=each,
        partition=partition,
        limit_s=timeout,
        options=["--label", *options],
    )
    number = nodes if isinstance(nodes, int) else len(nodes)
    click.echo(f"running {PROGRAM} on {number} nodes with {each} GPUs each, as soon as they are free", err=True)
    output, code = _run(command)
    report = parse(output)
    ranks = each * number
    try:
        check(report, ranks, output)
    except BandwidthTestFailed as error:
        for line in report.trouble[1:]:
            click.echo(f"slurm-fsx: {line}", err=True)
        raise BandwidthTestFailed(
            f"{PROGRAM} on {fold(_hosts(report, nodes)) or nodes}: {error.message}", error.hint
        ) from None
    run = runs.Run(
        when_s=time.time(),
        version=version,
        nodes=_hosts(report, nodes),
        gpus_per_node=each,
        busbw={str(row.size_bytes): row.busbw for row in report.rows},
    )
    earlier = _remember(config, run)
    comparison = runs.compare(run, earlier)
    if picture is not None:
        _draw(run, earlier, picture)
    if as_json:
        click.echo(json.dumps(_describe(run, report, comparison), indent=2))
    else:
        _print(run, report, comparison)
    raise SystemExit(1 if code or report.wrong or comparison.is_slow else 0)


@click.command()
@click.option("--nodes", "node_set", metavar="NODESET", help="Only runs that one of these had a part in.")
@click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, metavar="N", help="How many runs to show."
)
@click.option("--plot", "picture", metavar="FILE", help="Draw them to FILE.png or FILE.svg.")
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects.")
def history(node_set: str | None, limit: int, picture: str | None, as_json: bool) -> None:
    """Show earlier bandwidth tests, and which nodes are slow.

    A node is slow if the runs over several nodes that it had a part in reach less than 90 % of those that it had none
    in, at the largest size.
    """
    config = load_config().config
    if picture is not None:
        check_kind(picture)
    found = _history(config)
    if node_set is not None:
        wanted = set(expand(node_set))
        found = [run for run in found if wanted & set(run.nodes)]
    shown = found[-limit:]
    if as_json:
        click.echo(json.dumps([run._asdict() for run in shown], indent=2))
        return
    if not shown:
        click.echo(f"no test is in {_history_path(config)}: run slurm-fsx nccl test", err=True)
        return
    if picture is not None:
        draw([_line(run) for run in shown], "NCCL all_reduce", picture)
        click.echo(f"drawn to {picture}", err=True)
    rows = [(date(run.when_s), fold(run.nodes), str(run.gpus_per_node), run.version, f"{run.top:.2f}") for run in shown]
    print_table(("date", "nodes", "GPUs each", "version", "GB/s"), [tuple(map(printable, row)) for row in rows])
    slow = [each for each in runs.compare_nodes(found) if each.is_slow]
    for each in slow:
        click.echo(
            f"slurm-fsx: {each.name} is slow: {each.busbw:.2f} GB/s in the median of its runs, "
            f"{each.usual:.2f} in those of the others",
            err=True,
        )


def _program(config: Config, version_id: str | None) -> tuple[str, str]:
    """Give the version's id and its program's path, looked at in a child: the file system may be away."""
    root = config.below_fsx("nccl")
    if version_id is not None and not is_version_id(version_id):
        raise SlurmFsxError(f"{version_id!r} is no version", hint="see: slurm-fsx nccl list")

    def look() -> tuple[str, str, bool]:
        version = version_id or os.path.basename(os.readlink(f"{root}/{CURRENT}"))
        path = f"{version_folder(root, version)}/bin/{PROGRAM}"
        return version, path, os.access(path, os.X_OK)

    try:
        version, path, is_there = SharedFs(config["fsx.root"], 10.0).look(look)
    except FileNotFoundError as error:
        raise SlurmFsxError(f"no version is current in {root}", hint="run: slurm-fsx nccl install") from error
    if not is_there:
        raise SlurmFsxError(
            f"{path} is missing or cannot be run", hint="install a version with nccl-tests: slurm-fsx nccl install"
        )
    return version, path


def _choose(count: int, nodelist: str | None, partition: str, gpus: int | None) -> tuple[list[str] | int, int, str]:
    """Give the nodes or their number, the GPUs of each, and the partition."""
    known = choose_client().nodes()
    if nodelist is not None:
        wanted = expand(nodelist)
        by_name = {node.name: node for node in known}
        strange = [name for name in wanted if name not in by_name]
        if strange:
            raise SlurmFsxError(f"Slurm has no node {fold(strange)}", hint="see: sinfo --Node")
        chosen = [by_name[name] for name in wanted]
    else:
        chosen = [node for node in known if node.gpus and (not partition or node.partition == partition)] or known
    each = gpus or min(node.gpus for node in chosen) if chosen else 0
    if not each:
        raise SlurmFsxError(
            "Slurm knows of no GPUs on these nodes",
            hint="NCCL's test needs GPUs: see Gres in slurm.conf, or name other nodes with --nodelist or --partition",
        )
    unfit = [node.name for node in chosen if not node.takes_jobs]
    if nodelist is not None:
        if unfit:
            raise SlurmFsxError(f"{fold(unfit)} cannot take jobs", hint=f"see: sinfo --nodes={fold(unfit)}")
        return [node.name for node in chosen], each, partition or chosen[0].partition
    fit = [node for node in chosen if node.takes_jobs or node.is_powered_off]
    if len(fit) < count:
        raise SlurmFsxError(
            f"{len(fit)} nodes with GPUs can take jobs, {count} are needed",
            hint="test fewer with --nodes, or see: sinfo",
        )
    return count, each, partition or _commonest(fit)


def _commonest(nodes: Sequence[SlurmNode]) -> str:
    partitions = [node.partition for node in nodes if node.partition]
    return max(sorted(set(partitions)), key=partitions.count) if partitions else ""


def _run(command: Sequence[str]) -> tuple[str, int]:
    """Run srun to its end; what it says itself is shown at once, what its tasks say is returned, without their labels.

    Ctrl-C goes to srun, which ends the job.
    """
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
    except OSError as error:
        raise SlurmUnavailable(f"srun cannot be run: {error.strerror}", hint="run this where Slurm is") from error
    lines: list[str] = []
    with process:
        assert process.stdout is not None
        try:
            for raw in process.stdout:
                line = raw.decode(errors="replace").rstrip("\n")
                if line.startswith("srun: "):
                    click.echo(printable(line), err=True)
                label, colon, rest = line.partition(": ")
                lines.append(rest if colon and label.strip().isdigit() else line)
                if len(lines) > 100_000:
                    del lines[:50_000]
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            raise
    return "\n".join(lines), process.returncode


def _hosts(report: Report, nodes: Sequence[str] | int) -> list[str]:
    """Give the nodes of a run: those that were named, or those that the program names."""
    return list(nodes) if not isinstance(nodes, int) else sorted({device.host for device in report.devices})


def _history_path(config: Config) -> str:
    return config.below_fsx("logs", "nccl", "history.jsonl")


def _history(config: Config) -> list[runs.Run]:
    path = _history_path(config)
    found = SharedFs(config["fsx.root"], 10.0).look(lambda: [run._asdict() for run in runs.read(path)])
    return [runs.Run(**run) for run in found]


def _remember(config: Config, run: runs.Run) -> list[runs.Run]:
    """Add a run to the history; give the earlier ones."""
    path = _history_path(config)
    earlier: list[runs.Run] = []
    try:
        earlier = _history(config)
        SharedFs(config["fsx.root"], 10.0).look(lambda: _append(path, run))
    except OSError as error:
        click.echo(f"slurm-fsx: this run is not kept: {error.filename}: {error.strerror}", err=True)
    except SlurmFsxError as error:
        click.echo(f"slurm-fsx: this run is not kept: {error}", err=True)
    return earlier


def _append(path: str, run: runs.Run) -> None:
    if os.geteuid() == 0:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    runs.append(path, run)


def _line(run: runs.Run, is_main: bool = True) -> Line:
    label = f"{date(run.when_s)} {fold(run.nodes)} {run.version}"
    return Line(label, {int(size): value for size, value in run.busbw.items()}, is_main)


def _draw(run: runs.Run, earlier: Sequence[runs.Run], picture: str) -> None:
    alike = [other for other in earlier if other.shape == run.shape][-_DRAWN_BEFORE:]
    title = f"NCCL all_reduce, {len(run.nodes)} nodes with {run.gpus_per_node} GPUs each"
    draw([*(_line(other, is_main=False) for other in alike), _line(run)], title, picture)
    click.echo(f"drawn to {picture}", err=True)


def _describe(run: runs.Run, report: Report, comparison: runs.Comparison) -> dict[str, Any]:
    return {
        **run._asdict(),
        "rows": [
            {
                "size_bytes": row.size_bytes,
                "out_of_place": row.out_of_place._asdict(),
                "in_place": row.in_place._asdict(),
            }
            for row in report.rows
        ],
        "average_busbw": report.average,
        "wrong": report.wrong,
        "trouble": report.trouble,
        "usual": comparison.usual or None,
        "earlier_runs": comparison.runs,
        "is_slow": comparison.is_slow,
    }


def _print(run: runs.Run, report: Report, comparison: runs.Comparison) -> None:
    if sys.stdout.isatty():
        _print_drawn(report)
    else:
        rows = [
            (
                short_size(row.size_bytes),
                f"{row.out_of_place.time_us:.2f}",
                f"{row.out_of_place.busbw:.2f}",
                f"{row.in_place.busbw:.2f}",
                _wrong(row.out_of_place.wrong, row.in_place.wrong),
            )
            for row in report.rows
        ]
        print_table(("size", "time us", "busbw GB/s", "in place GB/s", "wrong"), rows)
    average = f", {report.average:.2f} on average" if report.average is not None else ""
    click.echo(f"{run.version} on {fold(run.nodes)}: {run.top:.2f} GB/s at the largest size{average}")
    for line in report.trouble:
        click.echo(f"slurm-fsx: {line}", err=True)
    if report.wrong:
        click.echo(f"slurm-fsx: values were wrong: a GPU, a link or the software is faulty ({report.wrong})", err=True)
    if comparison.runs < runs.ENOUGH:
        number = "1 earlier run" if comparison.runs == 1 else f"{comparison.runs} earlier runs"
        click.echo(f"{number} like this: too few to compare with", err=True)
    else:
        verdict = "slower than usual" if comparison.is_slow else "as usual"
        usual = f"{comparison.usual:.2f} GB/s is the median of {comparison.runs} earlier runs like this"
        click.echo(f"slurm-fsx: {verdict}: {usual}", err=True)
        if comparison.is_slow:
            click.echo("           see which node: slurm-fsx nccl history", err=True)


def _print_drawn(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    width = 30
    top = max(row.busbw for row in report.rows) or 1.0
    table = Table(box=None, pad_edge=False)
    for title in ("size", "time us", "busbw GB/s", "in place", "wrong"):
        table.add_column(title, justify="right")
    table.add_column("")
    for row in report.rows:
        table.add_row(
            short_size(row.size_bytes),
            f"{row.out_of_place.time_us:.2f}",
            f"{row.out_of_place.busbw:.2f}",
            f"{row.in_place.busbw:.2f}",
            _wrong(row.out_of_place.wrong, row.in_place.wrong),
            "█" * round(width * row.busbw / top),
        )
    Console().print(table)


def _wrong(*counts: int | None) -> str:
    known = [count for count in counts if count is not None]
    return str(sum(known)) if known else "-"
