"""``slurm-fsx job``: a job's record, from Slurm, the shared file system and Prometheus, whichever of them answers."""

from __future__ import annotations

import json
import shutil
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from ..containers.store import Store
from ..errors import SlurmFsxError
from ..monitoring.job_record.history import POINTS, count_points, find_job, measure_job
from ..monitoring.job_record.sparkline import BARS, PLAIN_BARS, draw_line
from ..monitoring.prometheus.query import PrometheusClient
from ..nccl.manifest import USES
from ..node.journal import printable
from ..node_sets import fold
from ..pictures import check_kind
from ..shared_fs import SharedFs
from ..slurm.accounting import past_job
from ..slurm.choice import choose_client
from ..uses import read_uses
from .containers.text import complain, date, load_config
from .job_record import join

if TYPE_CHECKING:
    from ..config.model import Config
    from ..monitoring.job_record.history import Course, MetricsJob
    from ..slurm.choice import ChosenClient
    from ..slurm_state import SlurmJob
    from .job_record import JobRecord

_NAMED_NODES = 16
_LEFT = 11
"""Columns for what a line is about."""

_DAY_S = 86400.0


def _job_id(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text)):
        raise click.BadParameter(f"{text!r} is no number; of an array's task, squeue --format='%i %A' shows it")
    return int(text)


@click.command()
@click.argument("job_id", metavar="JOBID", type=_job_id)
@click.option("--plot", "picture", metavar="FILE", help="Draw utilisation to FILE.png or FILE.svg.")
@click.option("--json", "as_json", is_flag=True, help="Print an object.")
@click.option("--explain", is_flag=True, help="Say how Slurm was asked, and why not otherwise.")
def job(job_id: int, picture: str | None, as_json: bool, explain: bool) -> None:
    """Show a job's record: nodes, image, NCCL version, and how busy its CPUs and GPUs were.

    JOBID is the job's own id, as squeue --format=%A gives it, of a job that runs or ran: Slurm is asked, then its
    accounting, then Prometheus, which remembers jobs for as long as its samples. CPU and memory are those of the
    whole nodes; GPUs are the job's own.

    --json prints an object: id, name, user, account, partition, state, nodes, gpus, start_time_s, end_time_s (0 while
    it runs), container, images, nccl, told_by, and courses, each with measure, unit, node (empty for the mean of all)
    and points (seconds since 1970, and the value).
    """
    if picture is not None:
        check_kind(picture)
    config = load_config(complain).config
    now_s = time.time()
    client = choose_client()
    slurm, told_by, slurm_answers = _ask_slurm(client, job_id, explain)
    cluster = client.cluster_name() or config["cluster.name"]
    prometheus, remembered = _ask_prometheus(config, job_id, cluster)
    if slurm is None and remembered is None:
        raise SlurmFsxError(
            f"nobody knows of a job {job_id}",
            hint=f"Slurm forgets a job minutes after its end, Prometheus after {config['monitoring.retention']:g} days",
        )
    record = join(job_id, slurm, told_by, remembered, *_uses(config, job_id), now_s, slurm_answers=slurm_answers)
    courses: list[Course] = []
    if prometheus is not None and record.start_time_s:
        try:
            courses = measure_job(
                prometheus, job_id, record.nodes, record.start_time_s, record.end_time_s or now_s, cluster
            )
        except SlurmFsxError as error:
            complain("utilisation", error)
    if as_json:
        click.echo(json.dumps(_describe(record, courses), indent=2))
    else:
        _print(record, courses, now_s)
    if picture is not None:
        _draw(record, courses, picture)


def _ask_slurm(client: ChosenClient, job_id: int, explain: bool) -> tuple[SlurmJob | None, str, bool]:
    """Give the job as Slurm or its accounting has it, who told, and whether Slurm answered."""
    answers = True
    try:
        found = client.job(job_id)
        if explain:
            for line in client.explain():
                click.echo(f"slurm-fsx: {printable(line)}", err=True)
        if found is not None:
            return found, "Slurm", True
    except SlurmFsxError as error:
        complain("Slurm", error)
        answers = False
    try:
        found = past_job(job_id)
    except SlurmFsxError as error:
        complain("Slurm's accounting", error)
        found = None
    return found, "accounting" if found is not None else "", answers


def _ask_prometheus(config: Config, job_id: int, cluster: str) -> tuple[PrometheusClient | None, MetricsJob | None]:
    try:
        prometheus = PrometheusClient(config["monitoring.prometheus_url"])
        return prometheus, find_job(prometheus, job_id, config["monitoring.retention"] * _DAY_S, cluster)
    except SlurmFsxError as error:
        complain("utilisation", error)
        return None, None


def _uses(config: Config, job_id: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Give the images and NCCL versions that root marked this job as a user of; marks go some time after its end."""
    folders = Store(config.below_fsx("containers")).uses, f"{config.below_fsx('nccl')}/{USES}"
    found: list[tuple[str, ...]] = []
    shared_fs = SharedFs(config["fsx.root"], config["fsx.timeout"])
    for what, folder in zip(("its image", "its NCCL version"), folders):
        try:
            found.append(tuple(shared_fs.look(partial(_used_by, folder, job_id))))
        except (SlurmFsxError, OSError) as error:
            complain(what, error)
            found.append(())
    return found[0], found[1]


def _used_by(folder: str, job_id: int) -> list[str]:
    return sorted(name for name, use in read_uses(folder).items() if job_id in use.ids)


def _print(record: JobRecord, courses: list[Course], now_s: float) -> None:
    rows = [
        ("job", f"{record.id} {record.name}".rstrip()),
        ("state", record.state),
        ("user", ", ".join(filter(None, (record.user, record.account and f"account {record.account}")))),
        ("partition", record.partition),
        ("nodes", f"{fold(record.nodes)} ({len(record.nodes)})" if record.nodes else ""),
        ("GPUs", str(record.gpus) if record.gpus else ""),
        ("start", date(record.start_time_s) if record.start_time_s else ""),
        ("end", date(record.end_time_s) if record.end_time_s else ""),
        ("ran", _duration((record.end_time_s or now_s) - record.start_time_s) if record.start_time_s else ""),
        ("container", record.container),
        ("image", ", ".join(record.images)),
        ("NCCL", ", ".join(record.nccl)),
        ("told by", ", ".join(record.told_by)),
    ]
    for name, value in rows:
        if value:
            click.echo(f"{name:<{_LEFT}}{_fit(printable(value))}")
    if courses:
        click.echo()
        _print_courses(record, courses, now_s)
    elif record.start_time_s:
        click.echo("slurm-fsx: no utilisation of this job is known", err=True)


def _fit(text: str) -> str:
    """Break a long text for a terminal, and keep its lines in their column; a script gets one line."""
    if not sys.stdout.isatty():
        return text
    width = max(20, shutil.get_terminal_size().columns - _LEFT)
    lines = [text[start : start + width] for start in range(0, len(text), width)]
    return f"\n{'':{_LEFT}}".join(lines)


def _print_courses(record: JobRecord, courses: list[Course], now_s: float) -> None:
    """Print a sparkline for each course, on one scale of time."""
    shown = courses if len(record.nodes) <= _NAMED_NODES else [course for course in courses if not course.node]
    labels = [f"  {course.node}" if course.node else f"{course.measure.name} {course.measure.unit}" for course in shown]
    left = max(map(len, labels)) + 1
    # What follows the line takes 22 columns.
    width = max(10, min(POINTS, shutil.get_terminal_size().columns - left - 22))
    encoding = sys.stdout.encoding or "ascii"
    bars = BARS if _can_write(BARS, encoding) else PLAIN_BARS
    start_s, end_s = record.start_time_s, record.end_time_s or now_s
    tops = {
        measure: max(value for course in courses if course.measure == measure for _, value in course.points)
        for measure in {course.measure for course in courses}
    }
    # A short job has fewer points than a terminal has columns.
    columns = min(width, count_points(start_s, end_s))
    click.echo(f"{'':<{left}}{'':<{columns}}  mean   min   max")
    for label, course in zip(labels, shown):
        values = [value for _, value in course.points]
        line = draw_line(course.points, start_s, end_s, columns, course.measure.top or tops[course.measure], bars)
        figures = f"{course.mean:6.1f}{min(values):6.1f}{max(values):6.1f}"
        click.echo(f"{printable(label):<{left}}{line:<{columns}}{figures}")


def _can_write(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeError:
        return False
    return True


def _draw(record: JobRecord, courses: list[Course], picture: str) -> None:
    from ..monitoring.job_record.plot import draw_courses

    if not courses:
        raise SlurmFsxError(f"there is nothing to draw of job {record.id}", hint="no utilisation of it is known")
    draw_courses(courses, printable(f"job {record.id} {record.name}, {record.user}, {fold(record.nodes)}"), picture)
    click.echo(f"drawn to {picture}", err=True)


def _describe(record: JobRecord, courses: list[Course]) -> dict[str, Any]:
    return {
        **record._asdict(),
        "courses": [
            {
                "measure": course.measure.name,
                "unit": course.measure.unit,
                "node": course.node,
                "points": course.points,
            }
            for course in courses
        ],
    }


def _duration(seconds: float) -> str:
    days, rest = divmod(int(max(0.0, seconds)), 86400)
    clock = f"{rest // 3600}:{rest % 3600 // 60:02}:{rest % 60:02}"
    return f"{days}-{clock}" if days else clock
