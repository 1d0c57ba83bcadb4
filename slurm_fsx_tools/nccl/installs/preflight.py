"""Everything that would keep an install from succeeding, or that its reader should know, found before it begins."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING, NamedTuple

from ...errors import SlurmFsxError, UntrustedFile
from ...files import check_owner
from ...folders import free_bytes
from ...shared_lock import read_owner
from ..manifest import STAGING, VERSIONS
from .fetching import find_tag
from .request import NCCL, OFI, TESTS
from .sources import FOLDER, GIT, UPSTREAM

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...programs import Programs
    from .request import Request

ERROR, WARNING, NOTE = "error", "warning", "note"
LOCK = "install"

NEEDED_BYTES = 3 << 30
"""What sources, objects and result of a build for two architectures take, with room to spare."""

NEEDED_FOR_WHEEL_BYTES = 1 << 30

_FIRST_CUDA = {"sm_86": (11, 1), "sm_89": (11, 8), "sm_90": (11, 8), "sm_100": (12, 8), "sm_103": (12, 9)}
"""Source: CUDA's release notes."""

_LAST_FOR_OLD = (12, 9)
"""Source: CUDA 13.0's release notes: nothing below sm_75 any more."""


class Finding(NamedTuple):
    """Something to know before an install."""

    level: str
    subject: str
    text: str
    hint: str = ""


def examine(request: Request, programs: Programs, needed_bytes: int | None = None) -> list[Finding]:
    """Look at everything that an install needs.

    Args:
        request: What is to be installed.
        programs: How Git is asked for tags.
        needed_bytes: How much room there must be; by what is built, without it.

    Returns:
        What was found, errors first.
    """
    if needed_bytes is None:
        needed_bytes = NEEDED_BYTES if request.compiles else NEEDED_FOR_WHEEL_BYTES
    found = [
        *_places(request, needed_bytes),
        *_compilers(request),
        *_plugin(request),
        *_tests(request),
        *_sources(request, programs),
        *_others(request),
    ]
    levels = (ERROR, WARNING, NOTE)
    return sorted(found, key=lambda finding: levels.index(finding.level))


def _places(request: Request, needed_bytes: int) -> Iterator[Finding]:
    prefix = os.path.dirname(request.root)
    if not os.path.isdir(prefix):
        yield Finding(ERROR, "folder", f"there is no folder {prefix}", "see whether the file system is mounted")
        return
    place = request.root if os.path.lexists(request.root) else prefix
    try:
        status = os.lstat(place)
        if place == request.root and not stat.S_ISDIR(status.st_mode):
            raise UntrustedFile(f"{place} is no folder", hint="put the folder itself there")
        if place == request.root:
            check_owner(place, status)
    except UntrustedFile as error:
        yield Finding(ERROR, "folder", error.message, error.hint)
    if not os.access(place, os.W_OK | os.X_OK):
        yield Finding(ERROR, "folder", f"user {os.geteuid()} may not write to {place}", "run this by sudo")
    for folder in (request.logs, os.path.dirname(request.logs)):
        if os.path.isdir(folder):
            if not os.access(folder, os.W_OK | os.X_OK):
                yield Finding(ERROR, "logs", f"user {os.geteuid()} may not write to {folder}", "run this by sudo")
            break
    free = free_bytes(place)
    if free < needed_bytes:
        yield Finding(
            ERROR,
            "space",
            f"{place} has {free / 2**30:.1f} GiB left, and this needs about {needed_bytes / 2**30:.1f}",
            "make room, or remove a version: slurm-fsx nccl list",
        )


def _compilers(request: Request) -> Iterator[Finding]:
    if not request.compiles:
        return
    tools = request.tools
    missing = [name for name, path in (("cc", tools.cc), ("c++", tools.cxx), ("make", tools.make)) if not path]
    if missing:
        yield Finding(ERROR, "compiler", f"{' and '.join(missing)} not found", "install gcc, g++ and make")
    if not tools.cuda_home:
        yield Finding(ERROR, "CUDA", "nvcc was not found", "install the CUDA toolkit, or say where: --cuda-home FOLDER")
    elif not tools.cuda:
        yield Finding(ERROR, "CUDA", f"{tools.cuda_home}/bin/nvcc does not say its release", "see: nvcc --version")
    if request.is_wheel and request.tests is None:
        return
    if not request.architectures:
        yield Finding(
            ERROR,
            "GPUs",
            "nothing says for which GPUs to build: none here, and none that Slurm names",
            "say it: --gencode sm_90, or --partition NAME",
        )
    if tools.cuda:
        release = tuple(int(number) for number in tools.cuda.split("."))
        for architecture in request.architectures:
            first = _FIRST_CUDA.get(architecture, (0, 0))
            number = int("".join(filter(str.isdigit, architecture)))
            if release < first or (number < 75 and release > _LAST_FOR_OLD):
                yield Finding(
                    ERROR,
                    "GPUs",
                    f"CUDA {tools.cuda} does not compile for {architecture}",
                    "leave that architecture out, or name another CUDA: --cuda-home FOLDER",
                )


def _plugin(request: Request) -> Iterator[Finding]:
    tools = request.tools
    if request.ofi is None:
        if request.ofi_folder:
            text = f"the plugin in {request.ofi_folder} is used (version {request.ofi_version}); none is built"
            yield Finding(NOTE, "plugin", text, "to build one: --ofi VERSION")
        else:
            yield Finding(WARNING, "plugin", "no network plugin: jobs on several nodes will not use EFA",
                          "--ofi VERSION builds one, --ofi efa takes the EFA installer's")  # fmt: skip
        return
    if tools.plugin_folder:
        yield Finding(
            NOTE,
            "plugin",
            f"the EFA installer's own plugin ({tools.plugin or 'version unknown'}) is in {tools.plugin_folder}",
            "--ofi efa takes it instead of building one",
        )
    if not tools.libfabric_home:
        yield Finding(
            ERROR,
            "libfabric",
            "its headers (rdma/fabric.h) were not found",
            "run the EFA installer, or install libfabric-dev, or say where: --libfabric-home FOLDER",
        )
    source = request.ofi.source
    if not tools.hwloc:
        level = ERROR if source.place == UPSTREAM[OFI] else WARNING
        yield Finding(level, "hwloc", "its header (hwloc.h) was not found", "install libhwloc-dev or hwloc-devel")
    names = (("autoconf", tools.autoconf), ("automake", tools.automake), ("libtool", tools.libtool))
    missing = [name for name, path in names if not path]
    is_folder = source.kind == FOLDER
    if missing and not (is_folder and os.path.isfile(f"{source.place}/configure")):
        # A release's tarball brings its configure script; whether another source does is seen when it is there.
        is_sure = source.place == UPSTREAM[OFI] or (is_folder and os.path.isfile(f"{source.place}/configure.ac"))
        level = ERROR if is_sure else WARNING
        yield Finding(level, "autotools", f"{', '.join(missing)} not found", f"install {' '.join(missing)}")


def _tests(request: Request) -> Iterator[Finding]:
    if request.tests is None:
        yield Finding(NOTE, "tests", "nccl-tests are not built", "to build them: --tests VERSION")
    elif not request.tools.mpi_home:
        text = "MPI was not found: nccl-tests are built without it, and run on one node alone"
        yield Finding(WARNING, "MPI", text, "install Open MPI's headers, or say where: --mpi-home FOLDER")
    if request.is_wheel and request.tests is not None:
        # Seen with 2.28.7: nccl_device/gin includes doca_gpunetio, which the wheel has not.
        text = "nccl-tests may not compile against a wheel: some lack headers that their own headers include"
        yield Finding(WARNING, "tests", text, "to have them for sure, build NCCL from source: --from source")
    if request.is_wheel:
        text = "it brings libnccl and its headers alone, with GPU code for whatever NVIDIA compiled it for"
        yield Finding(NOTE, "wheel", text, "neither the network plugin nor nccl-tests are in it: --ofi, --tests")


def _sources(request: Request, programs: Programs) -> Iterator[Finding]:
    repositories = {name: part for name, part in request.parts.items() if part.source.kind == GIT}
    titles = {NCCL: "NCCL", OFI: "plugin", TESTS: "nccl-tests"}
    if repositories and not request.tools.git:
        yield Finding(ERROR, "git", "git was not found", "install git, or name folders or tarballs: --nccl-source PATH")
        return
    for name, part in repositories.items():
        try:
            find_tag(part, request.tools.git, programs)
        except SlurmFsxError as error:
            hint = f"{error.hint}; without a network: --{name}-source PATH"
            yield Finding(ERROR, titles[name], error.message, hint)


def _others(request: Request) -> Iterator[Finding]:
    try:
        owner = read_owner(f"{request.root}/{STAGING}/{LOCK}")
    except (OSError, SlurmFsxError):
        return  # nobody has installed here yet; or it cannot be seen, which is said above
    if owner is not None:
        since = time.strftime("%H:%M", time.localtime(owner.since_s))
        text = f"process {owner.pid} on {owner.host} installs since {since}; this one will wait for it"
        yield Finding(WARNING, "others", text, "with --no-wait, it ends instead")


def plan_lines(request: Request, version_id: str) -> list[str]:
    """Say what an install would do, a line for each thing."""
    tools = request.tools
    lines = [f"version {version_id} into {request.root}/{VERSIONS}/{version_id}"]
    for name, part in request.parts.items():
        checksum = f", SHA-256 {part.source.sha256}" if part.source.sha256 else ""
        lines.append(f"{name} {part.version} from {part.source.place} ({part.source.kind}{checksum})")
    if request.ofi_folder and request.ofi is None:
        lines.append(f"{OFI} {request.ofi_version} as it is in {request.ofi_folder}")
    if request.compiles:
        lines.append(f"with CUDA {tools.cuda or '-'} in {tools.cuda_home or '-'}, {request.jobs} jobs at a time")
        lines.append(f"for {' '.join(request.architectures) or '-'}")
        lines.append(f"libfabric {tools.libfabric or '-'} {tools.libfabric_home}".rstrip())
        lines.append(f"MPI {tools.mpi or '-'} {tools.mpi_home}".rstrip())
    lines.append(f"steps: {', '.join(request.steps)}; logs: {request.logs}/{version_id}")
    return lines
