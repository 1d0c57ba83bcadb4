"""``slurm-fsx nccl install``: build a version, and let jobs have it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from ...errors import InstallFailed, InvalidVersion, SlurmUnavailable
from ...nccl import versions
from ...nccl.installs.architectures import of_gpu_types, of_this_node, parse_gencode
from ...nccl.installs.building import StepFailed
from ...nccl.installs.installing import BUILD_STALL_S, build_environment, install
from ...nccl.installs.preflight import ERROR, examine, plan_lines
from ...nccl.installs.request import NCCL, OFI, TESTS, Request, choose_id
from ...nccl.installs.sources import INDEX, UPSTREAM, WHEEL, Part, Source, parse_source, parse_sum, parse_version
from ...nccl.installs.tools import find_tools
from ...node.journal import printable
from ...programs import Programs, StopSign
from ...slurm.commands import CommandClient
from .progress import Picture, choose_reporter
from .text import folders, load_config, publish_files, sweep_marks

if TYPE_CHECKING:
    from ...nccl.installs.preflight import Finding
    from ...nccl.installs.tools import Tools
    from ...shared_lock import Owner

DEFAULT_NCCL = "v2.28.7-1"
DEFAULT_OFI = "v1.17.2-aws"
DEFAULT_TESTS = "v2.18.3"

AUTO, EFA, OFF = "auto", "efa", "off"

_JOB_BYTES = 2 << 30
"""What compiling one of NCCL's files may take of memory."""

_PREFLIGHT_STALL_S = 30.0


@click.command("install")
@click.option("--nccl", default=DEFAULT_NCCL, show_default=True, metavar="VERSION", help="NCCL's version, by its tag.")
@click.option("--ofi", default=AUTO, show_default=True, metavar="VERSION",
              help="The network plugin's version: a tag, efa (the EFA installer's own), off, or auto: efa where it is, "
                   f"else {DEFAULT_OFI}.")  # fmt: skip
@click.option("--tests", default=AUTO, show_default=True, metavar="VERSION",
              help=f"The version of nccl-tests: a tag, off, or auto: {DEFAULT_TESTS}, off with a wheel.")  # fmt: skip
@click.option("--prefix", metavar="FOLDER", help="Where the nccl folder goes; fsx.root unless given.")
@click.option("--from", "origin", type=click.Choice(["source", "wheel"]), default="source", show_default=True,
              help="Compile NCCL, or take it as NVIDIA compiled it, from the Python package index.")  # fmt: skip
@click.option("--nccl-source", metavar="PATH|URL", help="NCCL's Git repository, folder, tarball or wheel.")
@click.option("--ofi-source", metavar="PATH|URL", help="The plugin's repository, folder or tarball.")
@click.option("--tests-source", metavar="PATH|URL", help="The repository, folder or tarball of nccl-tests.")
@click.option("--nccl-sha256", default="", metavar="SUM", help="SHA-256 that NCCL's tarball or wheel must have.")
@click.option("--ofi-sha256", default="", metavar="SUM", help="SHA-256 that the plugin's tarball must have.")
@click.option("--tests-sha256", default="", metavar="SUM", help="SHA-256 that the tarball of nccl-tests must have.")
@click.option("--gencode", metavar="LIST", help="Compile for these GPUs, e.g. sm_80,sm_90; the cluster's unless given.")
@click.option("--partition", metavar="NAME", help="Compile for the GPUs of this partition.")
@click.option("--cuda-home", default="", metavar="FOLDER", help="Where CUDA is; looked for unless given.")
@click.option(
    "--libfabric-home", default="", metavar="FOLDER", help="Where libfabric's headers are; looked for unless given."
)
@click.option("--mpi-home", default="", metavar="FOLDER", help="Where MPI is; looked for unless given.")
@click.option(
    "--plugin-folder",
    default="",
    metavar="FOLDER",
    help="Where the EFA installer's plugin is; looked for unless given.",
)
@click.option("--jobs", type=click.IntRange(1), metavar="N", help="How many compilers at a time.")
@click.option("--activate/--no-activate", default=True, show_default=True, help="Let jobs have it at the end.")
@click.option("--anew", is_flag=True, help="Build it even if it is there, under a name of its own.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait while somebody else installs.")
@click.option("--dry-run", is_flag=True, help="Say what is missing and what would be done, and do nothing.")
def install_version(**how: Any) -> None:
    """Build a version of NCCL, its network plugin and nccl-tests for all nodes; for root.

    What is there already stays untouched, and jobs that run keep what they have. A failed or killed install goes on by
    the same command, with the step that it did not end. Each step has a log of its own in FSX/logs/nccl.

    A wheel takes seconds instead of a quarter of an hour, but brings libnccl and its headers alone: neither the network
    plugin (--ofi builds it, --ofi efa takes the EFA installer's) nor nccl-tests (--tests), and GPU code for whatever
    NVIDIA compiled it for.
    """
    config = load_config()
    root, logs = folders(config, how["prefix"])
    stop = StopSign()
    tools = find_tools(how["cuda_home"], how["libfabric_home"], how["mpi_home"], how["plugin_folder"])
    environment = build_environment(os.environ, tools.cuda_home, tools.mpi_home)
    request = _request(how, tools, root, logs)
    programs = Programs(environment, stop, _PREFLIGHT_STALL_S)
    findings = examine(request, programs)
    for finding in findings:
        _print(finding)
    errors = [finding for finding in findings if finding.level == ERROR]
    version_id, known = choose_id(request, how["anew"])
    if how["dry_run"]:
        for line in plan_lines(request, version_id):
            click.echo(printable(line))
        if known is not None:
            click.echo("it is there already: nothing would be built")
        raise SystemExit(1 if errors else 0)
    if errors:
        raise InstallFailed(
            f"{len(errors)} things are missing" if len(errors) > 1 else "one thing is missing",
            hint="mend what is said above; nothing was begun",
        )
    os.umask(0o022)
    reporter = choose_reporter(request.steps)
    try:
        with stop.on_signals():
            installed = install(
                request,
                Programs(environment, stop, BUILD_STALL_S),
                reporter,
                anew=how["anew"],
                wait=how["wait"],
                on_wait=_say_who_installs,
            )
    except StepFailed as error:
        _stop(reporter)
        click.echo(f"the last lines of {error.log}:", err=True)
        for line in error.lines:
            click.echo(f"  {printable(line)}", err=True)
        raise
    finally:
        _stop(reporter)
    manifest = installed.manifest
    click.echo(f"{manifest.id} is {'installed' if installed.is_new else 'there already'}", err=True)
    if not how["activate"]:
        click.echo(f"jobs get it with: slurm-fsx nccl use {manifest.id}", err=True)
        return
    versions.check_usable(root, manifest.id)
    versions.activate(root, manifest.id)
    publish_files(root, manifest, config)
    click.echo(f"{manifest.id} is current", err=True)
    sweep_marks(root, config)


def _request(how: dict[str, Any], tools: Tools, root: str, logs: str) -> Request:
    nccl = _nccl_part(how, tools)
    is_wheel = nccl.source.kind in (WHEEL, INDEX)
    ofi, ofi_folder = _plugin(how, tools, is_wheel)
    tests = None
    if how["tests"] != OFF and (how["tests"] != AUTO or not is_wheel):
        tests = _part(how, TESTS, DEFAULT_TESTS if how["tests"] == AUTO else how["tests"])
    needs_gpus = not is_wheel or tests is not None
    return Request(
        root=root,
        logs=logs,
        nccl=nccl,
        ofi=ofi,
        ofi_folder=ofi_folder,
        tests=tests,
        tools=tools,
        architectures=_architectures(how["gencode"], how["partition"]) if needs_gpus else (),
        machine=os.uname().machine,
        jobs=how["jobs"] or _jobs(),
    )


def _nccl_part(how: dict[str, Any], tools: Tools) -> Part:
    if how["origin"] == "wheel" and not how["nccl_source"]:
        version = parse_version(how["nccl"], "NCCL")
        major = tools.cuda.partition(".")[0] or "12"
        return Part(version, Source(INDEX, f"nvidia-nccl-cu{major}", parse_sum(how["nccl_sha256"])))
    part = _part(how, NCCL, how["nccl"])
    if how["origin"] == "wheel" and part.source.kind != WHEEL:
        raise InvalidVersion(f"{part.source.place} is no wheel", hint="leave out --nccl-source, or --from wheel")
    return part


def _plugin(how: dict[str, Any], tools: Tools, is_wheel: bool) -> tuple[Part | None, str]:
    """Give the plugin to build, or the folder of the one to take."""
    wanted = how["ofi"]
    if wanted == OFF:
        return None, ""
    if wanted == EFA and not tools.plugin_folder:
        raise InvalidVersion(
            "the EFA installer's plugin was not found", hint="say where: --plugin-folder FOLDER, or --ofi VERSION"
        )
    if wanted == EFA or (wanted == AUTO and tools.plugin_folder and not how["ofi_source"]):
        return None, tools.plugin_folder
    if wanted == AUTO and is_wheel and not how["ofi_source"]:
        return None, ""
    return _part(how, OFI, DEFAULT_OFI if wanted == AUTO else wanted), ""


def _part(how: dict[str, Any], name: str, version: str) -> Part:
    titles = {NCCL: "NCCL", OFI: "the network plugin", TESTS: "nccl-tests"}
    parsed = parse_version(version, titles[name])
    return Part(parsed, parse_source(how[f"{name}_source"] or UPSTREAM[name], how[f"{name}_sha256"]))


def _architectures(gencode: str | None, partition: str | None) -> tuple[str, ...]:
    if gencode:
        return parse_gencode(gencode)
    if not partition:
        own = of_this_node()
        if own:
            return own
    try:
        return of_gpu_types(CommandClient().gpu_types(partition or ""))
    except SlurmUnavailable:
        if partition:
            raise
        return ()


def _jobs() -> int:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(os.cpu_count() or 1, memory // _JOB_BYTES))


def _print(finding: Finding) -> None:
    click.echo(f"{finding.level}: {finding.subject}: {printable(finding.text)}", err=True)
    if finding.hint:
        click.echo(f"    {printable(finding.hint)}", err=True)


def _say_who_installs(owner: Owner) -> None:
    click.echo(f"slurm-fsx: waiting for process {owner.pid} on {owner.host}, which installs here", err=True)


def _stop(reporter: object) -> None:
    if isinstance(reporter, Picture):
        reporter.stop()
