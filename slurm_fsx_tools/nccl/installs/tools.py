"""What this machine has to build NCCL with, found by looking: places of CUDA, EFA and MPI move between releases."""

from __future__ import annotations

import glob
import os
import re
import subprocess
from typing import NamedTuple

from ...programs import find_program
from ..ofi_plugin import INSTALLER_FOLDERS, find_plugin

CUDA_HOMES = ("/usr/local/cuda", "/usr/local/cuda-*", "/opt/cuda")
LIBFABRIC_HOMES = ("/opt/amazon/efa", "/usr", "/usr/local")
MPI_HOMES = ("/opt/amazon/openmpi5", "/opt/amazon/openmpi", "/usr/lib64/openmpi")
HWLOC_HEADERS = ("/usr/include/hwloc.h", "/usr/local/include/hwloc.h")
_TIMEOUT_S = 20.0


class Tools(NamedTuple):
    """Where things are; an empty text for what is not there."""

    cc: str = ""
    cxx: str = ""
    make: str = ""
    git: str = ""
    autoconf: str = ""
    automake: str = ""
    libtool: str = ""
    cuda_home: str = ""
    cuda: str = ""
    """The release of nvcc, e.g. ``13.0``."""

    libfabric_home: str = ""
    libfabric: str = ""
    hwloc: str = ""
    """Its header, which the plugin's configure wants."""

    mpi_home: str = ""
    mpi: str = ""
    plugin_folder: str = ""
    """Of the EFA installer's own plugin."""

    plugin: str = ""
    """Its version."""


def find_tools(cuda_home: str = "", libfabric_home: str = "", mpi_home: str = "", plugin_folder: str = "") -> Tools:
    """See what is here.

    Args:
        cuda_home: Where CUDA is, if the user knows; so for the others.
        libfabric_home: The folder whose ``include`` has ``rdma/fabric.h``.
        mpi_home: The folder whose ``bin`` has ``mpicc``.
        plugin_folder: The folder of a plugin that is there already.
    """
    cuda_home = cuda_home or _find_cuda()
    libfabric_home = libfabric_home or next((home for home in LIBFABRIC_HOMES if has_libfabric(home)), "")
    mpi_home = mpi_home or _find_mpi()
    folder, version = find_plugin([plugin_folder] if plugin_folder else INSTALLER_FOLDERS)
    return Tools(
        cc=find_program("cc") or find_program("gcc") or "",
        cxx=find_program("c++") or find_program("g++") or "",
        make=find_program("make") or "",
        git=find_program("git") or "",
        autoconf=find_program("autoconf") or "",
        automake=find_program("automake") or "",
        libtool=find_program("libtoolize") or "",
        cuda_home=cuda_home,
        cuda=_cuda_release(f"{cuda_home}/bin/nvcc") if cuda_home else "",
        libfabric_home=libfabric_home if has_libfabric(libfabric_home) else "",
        libfabric=_libfabric_version(libfabric_home),
        hwloc=next((path for path in HWLOC_HEADERS if os.path.isfile(path)), ""),
        mpi_home=mpi_home,
        mpi=_mpi_version(mpi_home),
        plugin_folder=folder,
        plugin=version,
    )


def has_libfabric(home: str) -> bool:
    """Whether libfabric's headers are there."""
    return bool(home) and os.path.isfile(f"{home}/include/rdma/fabric.h")


def _find_cuda() -> str:
    homes = [home for pattern in CUDA_HOMES for home in sorted(glob.glob(pattern), key=_numbers, reverse=True)]
    for home in homes:
        if os.access(f"{home}/bin/nvcc", os.X_OK):
            return home
    program = find_program("nvcc")
    return os.path.dirname(os.path.dirname(os.path.realpath(program))) if program else ""


def _find_mpi() -> str:
    for home in MPI_HOMES:
        if os.access(f"{home}/bin/mpicc", os.X_OK):
            return home
    program = find_program("mpicc")
    # Not where links lead to in the end: Debian's go by way of /etc/alternatives.
    return os.path.dirname(os.path.dirname(program)) if program else ""


def _cuda_release(nvcc: str) -> str:
    match = re.search(r"release (\d+\.\d+)", _ask(nvcc, "--version"))
    return match.group(1) if match else ""


def _mpi_version(home: str) -> str:
    if not home:
        return ""
    match = re.search(r"(Open MPI\)?|HYDRA|Version)[^\d\n]*(\d+(?:\.\d+)+\S*)", _ask(f"{home}/bin/mpirun", "--version"))
    return match.group(2) if match else "unknown"


def _libfabric_version(home: str) -> str:
    if not has_libfabric(home):
        return ""
    for pattern in ("lib/pkgconfig", "lib64/pkgconfig", "lib/*/pkgconfig"):
        for path in glob.glob(f"{home}/{pattern}/libfabric.pc"):
            match = re.search(r"^Version:\s*(\S+)", _read(path), re.MULTILINE)
            if match:
                return match.group(1)
    header = _read(f"{home}/include/rdma/fabric.h")
    numbers = [re.search(rf"#define\s+FI_{part}_VERSION\s+(\d+)", header) for part in ("MAJOR", "MINOR")]
    return ".".join(match.group(1) for match in numbers if match) or "unknown"


def _ask(*command: str) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_S, check=False, text=True
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def _read(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read(1 << 18)
    except OSError:
        return ""


def _numbers(path: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", path)]
