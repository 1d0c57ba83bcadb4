"""``slurm-fsx nccl verify``: whether a version is whole, loads, and reaches jobs on the host and in containers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import click

from ...containers.catalogue import Catalogue
from ...containers.names import SUFFIX
from ...containers.records import read_record
from ...containers.resolution import resolve
from ...containers.store import Store
from ...errors import ImageNotFound, InvalidName, SlurmFsxError
from ...nccl.manifest import CURRENT, is_version_id, version_folder
from ...nccl.probing import (
    is_worth_keeping,
    judge_environment,
    judge_loading,
    keep,
    kept,
    kept_path,
    names_of,
    probe_command,
    read_probe,
)
from ...nccl.verifying import FAILED, OK, SKIPPED, Finding, as_documents, check_files, libraries_to_load
from ...node.journal import printable
from ...shared_fs import SharedFs
from ...slurm.srun import is_busy_answer, run_one_task
from ..containers.text import check_answers, load_config, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...config.model import Config
    from ...nccl.probing import Probe

_LOOK_S = 120.0
_IMMEDIATE_S = 60
_JOB_S = 240.0
_COLOURS = {OK: "green", FAILED: "red", SKIPPED: "dim"}


@click.command()
@click.argument("version_id", required=False, metavar="[ID]")
@click.option("--container", metavar="NAME", help="Also in a container, as --container-name=NAME starts it.")
@click.option("--image", metavar="IMAGE", help="Also in an image, a file or URI, as --container-image=IMAGE starts it.")
@click.option("--again", is_flag=True, help="Look into the image again, though it was looked at before.")
@click.option("--quick", is_flag=True, help="Files alone: start no job.")
@click.option("--partition", metavar="P", help="Where the jobs run.")
@click.option("--json", "as_json", is_flag=True, help="Print an object.")
def verify(
    version_id: str | None,
    container: str | None,
    image: str | None,
    again: bool,
    quick: bool,
    partition: str | None,
    as_json: bool,
) -> None:
    """See whether an NCCL version, the current one unless told, is whole, loads, and reaches jobs.

    Looked at are its files against the manifest, the version that the library itself tells, what library, plugin and
    tests are linked with, and, by a job of one task, what a program gets to see: on the host, and in a container or an
    image if one is named. What was found of an image's libraries is kept by its digest; --again looks afresh.

    Exits with 1 if a check failed.

    --json prints version and findings: check, state (ok, failed, warning, skipped), detail, why, hint.
    """
    config = load_config().config
    if version_id is not None and not is_version_id(version_id):
        raise InvalidName(f"{version_id!r} is no version", hint="see: slurm-fsx nccl list")
    root = config.below_fsx("nccl")
    check_answers(config)
    shared_fs = SharedFs(config["fsx.root"], _LOOK_S)
    current = shared_fs.look(lambda: _current(root))
    version = version_id or current
    if not version:
        raise SlurmFsxError(f"no version is current in {root}", hint="run: slurm-fsx nccl install, or name one")
    findings = [Finding(**each) for each in shared_fs.look(lambda: as_documents(check_files(root, version)))]
    if not quick:
        findings += _check_jobs(config, shared_fs, version, current, container, image, again, partition)
    if as_json:
        click.echo(json.dumps({"version": version, "findings": as_documents(findings)}, indent=2))
    else:
        _print(version, findings)
    raise SystemExit(1 if any(finding.state == FAILED for finding in findings) else 0)


def _current(root: str) -> str:
    try:
        return os.path.basename(os.readlink(f"{root}/{CURRENT}"))
    except OSError:
        return ""


def _check_jobs(
    config: Config,
    shared_fs: SharedFs,
    version: str,
    current: str,
    container: str | None,
    image: str | None,
    again: bool,
    partition: str | None,
) -> list[Finding]:
    root = config.below_fsx("nccl")
    folder = version_folder(root, version)
    if shutil.which("srun") is None:
        return [Finding("job", SKIPPED, "srun is not here", "", "run this where Slurm's commands are")]
    try:
        libraries = shared_fs.look(lambda: libraries_to_load(root, version))
    except (SlurmFsxError, OSError):
        return [Finding("job", SKIPPED, "without its files no job has any use of it")]
    options = [f"--partition={partition}"] if partition else []
    options += [f"--nccl={version}"] if version != current else []
    folders = names_of(folder, root, current)
    findings = []
    probe = _probe("job", libraries, options)
    if isinstance(probe, Finding):
        return [probe]
    findings.append(judge_environment(probe, folders, "job on the host", is_image=False))
    findings += judge_loading(probe, "on the host")
    asked = [(f"--container-name={container}", "container", container)] if container else []
    asked += [(f"--container-image={image}", "image", image)] if image else []
    for option, kind, name in asked:
        where = f"{kind} {name}"
        path = kept_path(root, version, _identity(config, kind, name))
        known = [] if again or kind == "container" else _kept(shared_fs, path, f"in {where}")
        if known:
            findings += known
            continue
        probe = _probe(where, libraries, [*options, option])
        if isinstance(probe, Finding):
            findings.append(probe)
            continue
        findings.append(judge_environment(probe, folders, where, is_image=True))
        loading = judge_loading(probe, f"in {where}")
        findings += loading
        if is_worth_keeping(probe):
            _keep(shared_fs, path, loading)
    return findings


def _probe(where: str, libraries: Sequence[str], options: Sequence[str]) -> Probe | Finding:
    """Run the probe as a job; give what it saw, or why it saw nothing."""
    command = run_one_task(probe_command(libraries), immediate_s=_IMMEDIATE_S, limit_s=_JOB_S, options=options)
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_IMMEDIATE_S + _JOB_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Finding(where, FAILED, f"the job did not end within {_IMMEDIATE_S + _JOB_S:g} s", "", "see: squeue")
    said = done.stderr.decode(errors="replace").strip()
    last = printable(said.splitlines()[-1])[:300] if said else f"srun ended with {done.returncode}"
    if is_busy_answer(said):
        return Finding(where, SKIPPED, f"no node was free within {_IMMEDIATE_S} s", "", "try again later")
    if "unrecognized option" in said:
        missing = printable(said.splitlines()[0])[:300]
        why = "the SPANK plugin, or Pyxis, is not in plugstack.conf here"
        return Finding(where, SKIPPED, missing, why, "see docs on plugstack.conf")
    try:
        return read_probe(done.stdout)
    except SlurmFsxError:
        why = "jobs like it do not start, or end before they print anything"
        return Finding(where, FAILED, last, why, f"run it by hand: {' '.join(['srun', *options, 'env'])}")


def _identity(config: Config, kind: str, name: str) -> str:
    """Give what an image's findings are kept by: its digest where it was imported, else its file as it is now."""
    store = Store(config.below_fsx("containers"))
    path = name
    try:
        if kind == "container" or not name.startswith("/"):
            path = f"{store.folder}/{resolve(name, Catalogue(store.folder), config).stem}{SUFFIX}"
        status = os.stat(path)
    except (SlurmFsxError, ImageNotFound, OSError):
        return name
    file = os.path.basename(path)
    record = read_record(store, file) if os.path.dirname(path) == store.folder and file.endswith(SUFFIX) else None
    return record.digest if record else f"{file}-{status.st_size}-{status.st_mtime_ns}"


def _kept(shared_fs: SharedFs, path: str, where: str) -> list[Finding]:
    return [Finding(**each) for each in shared_fs.look(lambda: as_documents(kept(path, where)))]


def _keep(shared_fs: SharedFs, path: str, findings: Sequence[Finding]) -> None:
    if os.geteuid() != 0:
        return  # nobody else's word counts there

    def write() -> None:
        keep(path, findings, time.time())

    try:
        shared_fs.look(write)
    except (SlurmFsxError, OSError) as error:
        click.echo(f"slurm-fsx: what was found of the image is not kept: {error}", err=True)


def _print(version: str, findings: Sequence[Finding]) -> None:
    rows = [(finding.state, finding.check, printable(finding.detail)) for finding in findings]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table("", "check", "found", box=None, pad_edge=False)
        for state, check, detail in rows:
            table.add_row(Text(state, style=_COLOURS.get(state, "yellow")), Text(check), Text(detail, overflow="fold"))
        Console().print(table)
    else:
        print_table(("state", "check", "found"), rows)
    for finding in findings:
        if finding.state not in (OK, SKIPPED) and (finding.why or finding.hint):
            click.echo(f"slurm-fsx: {finding.check}: {printable(finding.why)}", err=True)
            if finding.hint:
                click.echo(f"           {printable(finding.hint)}", err=True)
    failed = sum(finding.state == FAILED for finding in findings)
    click.echo(f"{version}: {failed or 'no'} of {len(findings)} checks failed", err=True)
