"""Whether an NCCL version is whole, loads, and reaches jobs: each check with what was found, why it counts, what to do.

The files' part looks at files and starts small programs that are ended after some seconds; it is to be called in a
child (`SharedFs.look`), since it touches the shared file system. `probing` has the jobs' part.
"""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import SlurmFsxError, UntrustedFile
from ..files import check_owner, read_trusted
from .library import LibraryUnusable, library_version
from .manifest import FILE, Manifest, version_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

OK = "ok"
FAILED = "failed"
WARNING = "warning"
SKIPPED = "skipped"

LIBRARY = "lib/libnccl.so.2"
PROGRAMS = ("all_reduce_perf", "all_gather_perf", "reduce_scatter_perf", "alltoall_perf", "sendrecv_perf")
PLUGINS = ("libnccl-net-ofi.so", "libnccl-net.so")
"""The plugin's names: the present one, and the one until release 1.15."""

LIMIT_S = 20.0
"""How long a program that loads a library may take: from a cold shared file system, hundreds of megabytes."""

AGAIN = "install this version again: slurm-fsx nccl install --anew, with the options that it was installed with"
"""What to do about a version that is damaged: without --anew, an install is content with what is there."""


class Finding(NamedTuple):
    """What one check found. Made of what json can carry."""

    check: str
    state: str
    """``ok``, ``failed``, ``warning`` or ``skipped``."""

    detail: str
    why: str = ""
    """Why it counts; empty where nothing is wrong."""

    hint: str = ""
    """What to do."""


def check_files(root: str, version_id: str, limit_s: float = LIMIT_S) -> list[Finding]:
    """See whether a version's files are there, tell the version that they should, and find what they are linked with.

    Args:
        root: The installation's folder, e.g. ``/fsx/nccl``.
        version_id: The version.
        limit_s: How long one of the small programs may take.
    """
    folder = version_folder(root, version_id)
    try:
        manifest = Manifest.parse(read_trusted(f"{folder}/{FILE}"), f"{folder}/{FILE}")
    except FileNotFoundError:
        why = "it is written last: without it the installation was interrupted, or somebody removed it"
        return [Finding("manifest", FAILED, f"{folder}/{FILE} is missing", why, AGAIN)]
    except (SlurmFsxError, OSError) as error:
        return [Finding("manifest", FAILED, str(error), "nothing else says what should be there", AGAIN)]
    findings = [_check_manifest(manifest, version_id)]
    libraries, missing = _files(folder, manifest)
    if missing:
        why = "the manifest says that they were installed"
        findings.append(Finding("files", FAILED, f"missing: {', '.join(missing)}", why, AGAIN))
    else:
        findings.append(Finding("files", OK, f"{len(libraries)} libraries and programs, nccl.h"))
    strange = _find_strange_owner([folder, *(os.path.dirname(path) for path in libraries), *libraries])
    if strange:
        why = "whoever can write to it runs programs as everybody who uses it, root included: it is not loaded here"
        return [*findings, Finding("owner", FAILED, strange.message, why, strange.hint)]
    if os.path.exists(f"{folder}/{LIBRARY}"):
        findings.append(_check_version(folder, manifest, limit_s))
    if manifest.machine != os.uname().machine:
        detail = f"built for {manifest.machine}, this is {os.uname().machine}"
        return [*findings, Finding("linkage", SKIPPED, detail, "", f"run this on {manifest.machine}")]
    search_path = ":".join(dict.fromkeys(os.path.dirname(path) for path in libraries if ".so" in path))
    findings += [_check_linkage(path, search_path, limit_s) for path in libraries]
    return findings


def libraries_to_load(root: str, version_id: str) -> list[str]:
    """Give the libraries of a version that jobs load: NCCL's own, and the plugin where it has one."""
    folder = version_folder(root, version_id)
    manifest = Manifest.parse(read_trusted(f"{folder}/{FILE}"), f"{folder}/{FILE}")
    plugin = _plugin(folder, manifest)
    return [f"{folder}/{LIBRARY}", *([plugin] if plugin else [])]


def _check_manifest(manifest: Manifest, version_id: str) -> Finding:
    if manifest.id != version_id:
        why = "the folder was renamed or copied: what it holds may be anything"
        return Finding("manifest", FAILED, f"it is that of {manifest.id}", why, AGAIN)
    parts = [f"NCCL {manifest.nccl}"]
    parts += [f"plugin {manifest.ofi}"] if manifest.ofi else []
    parts += [f"CUDA {manifest.cuda}"] if manifest.cuda else []
    return Finding("manifest", OK, ", ".join(parts))


def _files(folder: str, manifest: Manifest) -> tuple[list[str], list[str]]:
    """Give the libraries and programs that are there, and what is missing."""
    found, missing = [], []
    for name in (LIBRARY, "include/nccl.h"):
        if not os.path.exists(f"{folder}/{name}"):
            missing.append(name)
        elif name == LIBRARY:
            found.append(f"{folder}/{name}")
    if manifest.ofi:
        plugin = _plugin(folder, manifest)
        found += [plugin] if plugin else []
        missing += [] if plugin else [f"{_plugin_folder(folder, manifest)}/{PLUGINS[0]}"]
    if manifest.tests:
        programs = [f"{folder}/bin/{name}" for name in PROGRAMS if os.access(f"{folder}/bin/{name}", os.X_OK)]
        found += programs
        missing += [] if f"{folder}/bin/{PROGRAMS[0]}" in programs else [f"bin/{PROGRAMS[0]}"]
    return found, missing


def _find_strange_owner(paths: Iterable[str]) -> UntrustedFile | None:
    for path in dict.fromkeys(paths):
        try:
            check_owner(path, os.stat(path))
        except UntrustedFile as error:
            return error
    return None


def _plugin_folder(folder: str, manifest: Manifest) -> str:
    # Relative to the version's folder, or an EFA installer's own.
    return os.path.normpath(os.path.join(folder, manifest.ofi_folder or "lib"))


def _plugin(folder: str, manifest: Manifest) -> str:
    if not manifest.ofi:
        return ""
    paths = [f"{_plugin_folder(folder, manifest)}/{name}" for name in PLUGINS]
    return next((path for path in paths if os.path.exists(path)), "")


def _check_version(folder: str, manifest: Manifest, limit_s: float) -> Finding:
    path = f"{folder}/{LIBRARY}"
    if manifest.machine != os.uname().machine:
        return Finding("version", SKIPPED, f"built for {manifest.machine}", "", f"run this on {manifest.machine}")
    try:
        version = library_version(path, limit_s)
    except LibraryUnusable as error:
        return Finding("version", FAILED, error.message, "no job can load it either", AGAIN)
    wanted = manifest.nccl.lstrip("v").partition("-")[0]
    if version != wanted:
        why = "jobs get another version than its name says; plugin and profile were chosen for that one"
        return Finding("version", FAILED, f"the library says {version}, the manifest {wanted}", why, AGAIN)
    return Finding("version", OK, f"the library says {version}")


def _check_linkage(path: str, search_path: str, limit_s: float) -> Finding:
    check = f"linkage of {os.path.basename(path)}"
    done = _run(["ldd", path], limit_s, {"LD_LIBRARY_PATH": search_path})
    if done is None:
        return Finding(check, FAILED, f"ldd {path} gave no answer in {limit_s:g} s", "it hangs when loaded", AGAIN)
    return judge_linkage(check, path, done.stdout + done.stderr, done.returncode)


def judge_linkage(check: str, path: str, output: str, code: int) -> Finding:
    """Read what ldd, or ld.so --list, printed of a file."""
    unfound = [line.split("=>")[0].strip() for line in output.splitlines() if "not found" in line and "=>" in line]
    versions = re.findall(r"version [`']([^']+)' not found", output)
    if versions:
        detail = f"{path} needs {', '.join(dict.fromkeys(versions))}, which is newer than what is here"
        why = "it was built on a newer system than it is to run on"
        return Finding(
            check, FAILED, detail, why, "build it on the oldest system that is to use it, or use a newer image"
        )
    if unfound:
        detail = f"{path} does not find {', '.join(dict.fromkeys(unfound))}"
        why = "a program that needs it does not start, and NCCL goes on without a plugin that does not load: on sockets"
        return Finding(check, FAILED, detail, why, "install what brings these libraries here, or in the image")
    unresolved = re.search(r"undefined symbol: \S+|symbol \S+:? symbol not found", output)
    if unresolved:
        detail = f"{path}: {unresolved[0]}"
        why = "a library that it needs is there, but of another version"
        return Finding(check, FAILED, detail, why, "use an image, or an installation, whose versions fit together")
    if code:
        return Finding(check, FAILED, f"{path}: {_last(output) or f'ended with {code}'}", "it cannot be loaded", AGAIN)
    return Finding(check, OK, "nothing is missing")


def _run(
    command: list[str], limit_s: float, extra: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str] | None:
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C",
        **(extra or {}),
    }
    try:
        return subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None


def _last(text: str) -> str:
    return next((line.strip()[:300] for line in reversed(text.splitlines()) if line.strip()), "")


def as_documents(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Give findings as json has them."""
    return [finding._asdict() for finding in findings]
