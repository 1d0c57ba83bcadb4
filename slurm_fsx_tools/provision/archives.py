"""The archive that `make dist` makes: what it holds, whether it is whole, and what of it fits this machine."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from ..errors import SlurmFsxError
from ..files import WORLD_READABLE
from ..version import BUILD_FILE
from .installation import HOME

if TYPE_CHECKING:
    from collections.abc import Iterator

MANIFEST = "MANIFEST"
PACKAGES = "lib/python3/site-packages"
"""Pure Python, for any from 3.9 on; a version's ``lib/python3.X`` is a link to its ``lib/python3``."""

PLUGIN = "lib/slurm/spank_slurm_fsx.so"
_OPEN = 0o755
_SUM_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_SLURM_FOLDERS = ("/opt/slurm", "/usr/local", "/usr")


class NotInstalled(SlurmFsxError):
    """A version of this software that was not put on the machine, or not made the one that runs."""


def sum_file(path: str) -> str:
    """Give a file's SHA-256."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def files_of(folder: str) -> Iterator[str]:
    """List a version's own files, relative and sorted: no links, no bytecode, not the manifest."""
    found = []
    for above, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__" and not os.path.islink(f"{above}/{name}")]
        found += [os.path.relpath(f"{above}/{name}", folder) for name in names if not os.path.islink(f"{above}/{name}")]
    return iter(sorted(path for path in found if path != MANIFEST))


def write_manifest(folder: str) -> None:
    """Write down the sum of each file, as sha256sum(1) does."""
    lines = [f"{sum_file(os.path.join(folder, path))}  {path}\n" for path in files_of(folder)]
    with open(f"{folder}/{MANIFEST}", "w") as file:
        file.writelines(lines)


def check_whole(folder: str) -> None:
    """Compare each file with the manifest; what was added counts as well.

    Raises:
        NotInstalled: a file is missing, changed, or not in the manifest.
    """
    with open(f"{folder}/{MANIFEST}", errors="surrogateescape") as file:
        matches = [_SUM_LINE.fullmatch(line.rstrip("\n")) for line in file]
    sums = {match[2]: match[1] for match in matches if match}
    wrong = set(sums).symmetric_difference(files_of(folder))
    wrong |= {path for path in set(sums) - wrong if sum_file(os.path.join(folder, path)) != sums[path]}
    if wrong or not sums:
        named = ", ".join(map(repr, sorted(wrong)[:3])) or MANIFEST
        raise NotInstalled(f"{folder} is not as it was made: {named}", hint="get the archive again, and unpack it anew")


def read_id(folder: str) -> str:
    """Name a version by release and build, e.g. ``0.1.0-3f9a2b7c1d2e``.

    Raises:
        NotInstalled: the folder holds no version.
    """
    package = f"{folder}/{PACKAGES}/slurm_fsx_tools"
    try:
        with open(f"{package}/version.py") as file:
            release = re.search(r'^VERSION = "([0-9A-Za-z.]+)"$', file.read(), re.MULTILINE)
        with open(f"{package}/{BUILD_FILE}") as file:
            build = re.fullmatch(r"[0-9a-f]{12}", file.read().strip())
    except FileNotFoundError:
        raise NotInstalled(f"{folder} is no unpacked archive", hint="name the folder that has install.sh") from None
    if release is None or build is None:
        raise NotInstalled(f"{folder} does not say which version it is", hint="make the archive by make dist")
    return f"{release[1]}-{build[0]}"


def copy_version(source: str, staged: str) -> None:
    """Copy an unpacked archive to where it will be finished: its files and folders, readable by all, root's alone.

    Raises:
        NotInstalled: the disk is full, say.
    """
    try:
        shutil.copytree(source, staged, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    except shutil.Error as error:  # an OSError with a list of what could not be copied, and why
        why = str(error.args[0][0][2])
        raise NotInstalled(f"{source} could not be copied: {why}", hint="see whether the disk is full: df") from None
    for above, _, names in os.walk(staged):
        os.chmod(above, _OPEN)
        for name in names:
            path = f"{above}/{name}"
            if not os.path.islink(path):
                os.chmod(path, _OPEN if os.stat(path).st_mode & 0o100 else WORLD_READABLE)


def finish(staged: str, prefix: str, final: str, with_plugin: bool = True) -> str:
    """Make a copy of an archive run on this machine: its Python, its place, its plugin, its bytecode.

    Args:
        staged: The copy, checked.
        prefix: The link by which it will be known.
        final: The folder it will be.
        with_plugin: Whether it is an error that the archive has no plugin for the Slurm that is here.

    Returns:
        What an admin should know, or an empty string.

    Raises:
        NotInstalled: no plugin fits, or what was made does not run.
        OSError: the disk is full, say.
    """
    python = os.path.realpath(sys.executable)
    minor = f"python3.{sys.version_info.minor}"
    os.symlink("python3", f"{staged}/lib/{minor}")
    for name, target in (("python3", python), ("python", "python3"), (minor, "python3")):
        os.symlink(target, f"{staged}/bin/{name}")
    with open(f"{staged}/pyvenv.cfg", "w") as file:  # the site module looks for it; Source: PEP 405
        file.write(f"home = {os.path.dirname(python)}\ninclude-system-site-packages = false\n")
    if prefix != HOME:
        _relocate(staged, prefix)
    note = _link_plugin(staged, with_plugin)
    write_manifest(staged)
    # Unchecked: it is believed without a look at each source. Where a source names its place, it is the final one.
    command = [f"{staged}/bin/python3", "-I", "-m", "compileall", "-q", "--invalidation-mode=unchecked-hash"]
    command += ["-s", staged, "-p", final, f"{staged}/{PACKAGES}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().rpartition("\n")[2]
        raise NotInstalled(f"bytecode could not be written: {said}", hint="see whether the disk is full: df")
    _try(staged)
    return note


def slurm_release() -> str:
    """Give the release of the Slurm that is installed here, e.g. ``24.11``; an empty string without one."""
    for folder in _SLURM_FOLDERS:
        for program in ("sbin/slurmd", "sbin/slurmctld", "bin/sinfo"):  # sinfo of 22.05 wants a slurm.conf to say so
            try:
                done = subprocess.run([f"{folder}/{program}", "-V"], capture_output=True, text=True, timeout=10)
            except (OSError, subprocess.TimeoutExpired):
                continue
            match = re.match(r"slurm\S* (\d+\.\d+)\.", done.stdout)
            if match:
                return match[1]
    return ""


def _relocate(staged: str, prefix: str) -> None:
    """Have the scripts name another place."""
    for path in list(files_of(staged)):
        if path.startswith(("bin/", "libexec/", "share/slurm-fsx/")):
            with open(os.path.join(staged, path), "r+b") as file:
                text = file.read()
                file.seek(0)
                file.truncate()
                file.write(re.sub(rb"/opt/slurm-fsx(?![\w.-])", os.fsencode(prefix), text))


def _link_plugin(staged: str, required: bool) -> str:
    """Link the SPANK plugin that was built for the Slurm that is here, and see that it can be loaded."""
    release = slurm_release()
    built = sorted(name for name in os.listdir(f"{staged}/lib/slurm") if os.path.isdir(f"{staged}/lib/slurm/{name}"))
    if not release:
        return "no Slurm is installed here, so no SPANK plugin was chosen: run this again when there is one"
    if release not in built:
        if required:
            has = " ".join(built) or "none"
            raise NotInstalled(
                f"the archive has no SPANK plugin for Slurm {release}, which is here; it has {has}",
                hint="make one where that Slurm's headers are: make dist; or go on with --without-plugin",
            )
        return f"no SPANK plugin for Slurm {release}: --container-name is not for jobs on this machine"
    os.symlink(f"{release}/{os.path.basename(PLUGIN)}", f"{staged}/{PLUGIN}")
    problem = _loading_problem(f"{staged}/{PLUGIN}")
    if problem:
        raise NotInstalled(
            f"the SPANK plugin cannot be loaded here: {problem}",
            hint="make dist on the oldest system that the archive is for",
        )
    return ""


def _loading_problem(plugin: str) -> str:
    """Say why the C library would not load it. Symbols that only Slurm's programs have are no reason."""
    try:
        ctypes.CDLL(plugin)
    except OSError as error:
        if "undefined symbol: s" not in str(error):  # slurm_…, spank_…
            return str(error)
    return ""


def _try(staged: str) -> None:
    """Start the command once, before any job does."""
    wanted = read_id(staged)
    code = (
        f"import sys; sys.path.insert(0, {staged!r} + '/{PACKAGES}');"
        "import slurm_fsx_tools.cli.main, yaml, rich.table;"
        "from slurm_fsx_tools.version import VERSION, build; print(VERSION + '-' + build())"
    )
    done = subprocess.run([f"{staged}/bin/python3", "-I", "-c", code], capture_output=True, text=True, check=False)
    if done.stdout.strip() != wanted:
        raise NotInstalled(
            f"version {wanted} does not run here: {(done.stderr or done.stdout).strip()[-500:]}",
            hint="the version that was there before still runs",
        )
