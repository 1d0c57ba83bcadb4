"""Builds a version in a folder of its own, step by step: each with a log, and a mark when it is done."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

from ...errors import InstallFailed, Interrupted, NoSpace, SlurmFsxError
from ...files import move, read_trusted, write_atomically
from ...folders import make_folder, open_log, remove_tree
from ...programs import ProgramFailed
from ..library import library_version
from ..manifest import FILE, STAGING, Manifest, version_folder
from ..ofi_plugin import find_plugin, has_plugin
from ..survey import VERSION_FILE
from ..versions import LIBRARY
from .architectures import gencode
from .fetching import fetch
from .request import FETCH, INSTALL, NCCL, OFI, TESTS, TITLES
from .top_files import OFI_LINK
from .unpacking import check_links

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...programs import Programs
    from .request import Request

SHOWN_LINES = 20
_OPEN = 0o755
_PRIVATE = 0o700
_FULL = (errno.ENOSPC, errno.EDQUOT)


class StepFailed(InstallFailed):
    """A step that ended badly; with its last lines, and where its log is."""

    def __init__(self, message: str, hint: str, lines: Sequence[str], log: str) -> None:
        super().__init__(message, hint)
        self.lines = list(lines)
        self.log = log


class Reporter(Protocol):
    """Is told how far a build is."""

    def begin(self, step: str, log: str) -> None: ...

    def say(self, line: str) -> None: ...

    def end(self, step: str, seconds: float) -> None: ...

    def skip(self, step: str) -> None: ...


class Build:
    """A version under way. What an earlier build of the same request has done is not done again.

    Args:
        request: What is built.
        version_id: What it is called.
        programs: How programs are run.
        reporter: Told how far it is.
    """

    def __init__(self, request: Request, version_id: str, programs: Programs, reporter: Reporter) -> None:
        self._request = request
        self._id = version_id
        self._programs = programs
        self._reporter = reporter
        self._final = version_folder(request.root, version_id)
        self._folder = f"{request.root}/{STAGING}/{version_id}"
        self.result = f"{self._folder}/root"
        """The whole version, when `run` has ended."""
        self._log_fd = -1
        self._lines: deque[str] = deque(maxlen=SHOWN_LINES)

    def run(self) -> Manifest:
        """Do all steps that are not done yet.

        Raises:
            StepFailed: one failed.
            NoSpace: the file system is full.
            Interrupted: a signal came.
            UntrustedFile, OSError: the folders are not as they should be.
        """
        self._prepare()
        steps = {
            FETCH: self._fetch,
            NCCL: self._build_nccl,
            OFI: self._build_ofi,
            TESTS: self._build_tests,
            INSTALL: self._install,
        }
        for step in self._request.steps:
            if os.path.lexists(self._mark(step)):
                self._reporter.skip(step)
                continue
            log = f"{self._request.logs}/{self._id}/{step}.log"
            self._log_fd = open_log(log)
            self._lines.clear()
            self._reporter.begin(step, log)
            begun_s = time.monotonic()
            try:
                self._note(f"begun: {TITLES[step]} for {self._id}")
                steps[step]()
                write_atomically(self._mark(step), b"")
                self._note(f"done after {time.monotonic() - begun_s:.0f} s")
            except Interrupted:
                self._note("interrupted")
                raise
            except (SlurmFsxError, OSError) as error:
                self._note(f"failed: {error}")
                raise self._failure(step, error, log) from error
            finally:
                os.close(self._log_fd)
            self._reporter.end(step, time.monotonic() - begun_s)
        return Manifest.parse(read_trusted(f"{self.result}/{FILE}"), f"{self.result}/{FILE}")

    def discard(self) -> None:
        """Remove what was needed to build."""
        remove_tree(self._folder)

    def _prepare(self) -> None:
        """Make the folders; begin anew where something else was asked for under this id."""
        wanted = json.dumps(self._request.describe(), sort_keys=True).encode()
        request_file = f"{self._folder}/request.json"
        try:
            known = read_trusted(request_file)
        except (OSError, SlurmFsxError):
            known = b""
        if known != wanted:
            remove_tree(self._folder)
        make_folder(self._folder, _PRIVATE)
        for name in ("done", "src", "build"):
            make_folder(f"{self._folder}/{name}", _PRIVATE)
        if known != wanted:
            write_atomically(request_file, wanted)
        logs = self._request.logs
        if not os.path.isdir(os.path.dirname(logs)):
            make_folder(os.path.dirname(logs), _OPEN)
        for folder in (logs, f"{logs}/{self._id}"):
            make_folder(folder, _OPEN)

    def _fetch(self) -> None:
        for name, part in self._request.parts.items():
            goal = f"{self._folder}/src/{name}"
            record = f"{goal}.json"
            if os.path.lexists(record):
                continue
            for left in (goal, f"{goal}.part"):
                remove_tree(left)
            fetched = fetch(
                part,
                f"{goal}.part",
                git=self._request.tools.git,
                python=sys.executable,
                programs=self._programs,
                say=self._say,
            )
            remove_tree(f"{goal}.part.download")
            move(f"{goal}.part", goal)
            write_atomically(record, json.dumps(fetched).encode())

    def _build_nccl(self) -> None:
        self._run([*self._nccl_make(), "src.build", f"PREFIX={self._final}"], self._source(NCCL))

    def _build_ofi(self) -> None:
        source, tools = self._source(OFI), self._request.tools
        if not os.path.isfile(f"{source}/configure"):
            if not os.path.isfile(f"{source}/autogen.sh"):
                raise InstallFailed(
                    "the plugin's source has neither configure nor autogen.sh", hint="name the source of aws-ofi-nccl"
                )
            self._run(["/bin/sh", "./autogen.sh"], source)
        options = [
            f"--prefix={self._final}",
            f"--libdir={self._final}/lib",
            f"--with-libfabric={tools.libfabric_home}",
            f"--with-cuda={tools.cuda_home}",
            "--disable-tests",
        ]
        if tools.libfabric_home.startswith("/opt/amazon/"):
            options.append("--enable-platform-aws")
        self._run(["/bin/sh", "./configure", *options], source)
        self._run([self._request.tools.make, f"-j{self._request.jobs}"], source)

    def _build_tests(self) -> None:
        tools = self._request.tools
        command = [
            *(tools.make, f"-j{self._request.jobs}", f"BUILDDIR={self._built(TESTS)}"),
            *(f"NCCL_HOME={self._built(NCCL)}", f"CUDA_HOME={tools.cuda_home}"),
            f"NVCC_GENCODE={gencode(self._request.architectures)}",
        ]
        command += ["MPI=1", f"MPI_HOME={tools.mpi_home}"] if tools.mpi_home else ["MPI=0"]
        self._run(command, self._source(TESTS))

    def _install(self) -> None:
        """Put together what was built, and see that it is whole."""
        request, root = self._request, self.result
        remove_tree(root)
        os.mkdir(root, _OPEN)
        if request.is_wheel:
            shutil.copytree(self._source(NCCL), root, symlinks=True, dirs_exist_ok=True)
        else:
            self._run([*self._nccl_make(), "install", f"PREFIX={root}"], self._source(NCCL))
        ofi_folder = request.ofi_folder
        if request.ofi is not None:
            apart = f"{self._folder}/apart"
            remove_tree(apart)
            self._run([request.tools.make, "install", f"DESTDIR={apart}"], self._source(OFI))
            shutil.copytree(f"{apart}{self._final}", root, symlinks=True, dirs_exist_ok=True)
            found, _ = find_plugin([f"{root}/lib"])
            ofi_folder = found.replace(root, self._final, 1) if found else f"{self._final}/lib"
            if not (found or has_plugin(f"{root}/lib")):
                raise InstallFailed("the plugin's make install has left no library", hint="see the log")
        elif ofi_folder:
            os.symlink(ofi_folder, f"{root}/{OFI_LINK}")
        if request.tests is not None:
            self._install_tests()
        write_atomically(f"{root}/{VERSION_FILE}", f"v{request.nccl.version}\n".encode())
        self._check(root)
        write_atomically(f"{root}/{FILE}", self._manifest(ofi_folder).format())
        _settle(root)

    def _install_tests(self) -> None:
        folder = f"{self.result}/bin"
        os.makedirs(folder, exist_ok=True)
        programs = [name for name in os.listdir(self._built(TESTS)) if name.endswith("_perf")]
        if not programs:
            raise InstallFailed("nccl-tests' make has left no programs", hint="see the log of step tests")
        for name in programs:
            shutil.copy2(f"{self._built(TESTS)}/{name}", f"{folder}/{name}")

    def _check(self, root: str) -> None:
        self._say(f"loading {LIBRARY}")
        found = library_version(f"{root}/{LIBRARY}")
        wanted = self._request.nccl.version.partition("-")[0]
        if wanted[:1].isdigit() and found != wanted:
            raise InstallFailed(
                f"the library says that it is {found}, not {wanted}", hint="name the version that the source has"
            )
        link = f"{root}/{OFI_LINK}"
        target = os.readlink(link) if os.path.islink(link) else ""
        if target:
            os.unlink(link)
        check_links(root, "what was built")
        if target:
            os.symlink(target, link)

    def _manifest(self, ofi_folder: str) -> Manifest:
        request, tools = self._request, self._request.tools
        sources = {}
        for name in request.parts:
            sources[name] = json.loads(read_trusted(f"{self._folder}/src/{name}.json"))
        return Manifest(
            id=self._id,
            nccl=request.nccl.version,
            ofi=request.ofi_version,
            ofi_folder=ofi_folder,
            tests=request.tests.version if request.tests else "",
            cuda=tools.cuda,
            libfabric=tools.libfabric,
            mpi=tools.mpi,
            architectures=list(request.architectures),
            machine=request.machine,
            sources=sources,
            installed_s=time.time(),
        )

    def _nccl_make(self) -> list[str]:
        tools = self._request.tools
        return [
            *(tools.make, f"-j{self._request.jobs}", f"BUILDDIR={self._built(NCCL)}", f"CUDA_HOME={tools.cuda_home}"),
            f"NVCC_GENCODE={gencode(self._request.architectures)}",
        ]

    def _source(self, part: str) -> str:
        return f"{self._folder}/src/{part}"

    def _built(self, part: str) -> str:
        if part == NCCL and self._request.is_wheel:
            return self._source(NCCL)
        return f"{self._folder}/build/{part}"

    def _mark(self, step: str) -> str:
        return f"{self._folder}/done/{step}"

    def _run(self, command: Sequence[str], cwd: str) -> None:
        self._note(f"in {cwd}: {command}")
        self._programs.run(command, cwd=cwd, on_line=self._say)

    def _say(self, line: str) -> None:
        self._lines.append(line)
        self._write(line)
        self._reporter.say(line)

    def _note(self, text: str) -> None:
        when = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        self._write(f"-- {when} {os.uname().nodename}[{os.getpid()}] {text}")

    def _write(self, line: str) -> None:
        try:
            os.write(self._log_fd, f"{line}\n".encode(errors="backslashreplace"))
        except OSError as error:
            if error.errno not in _FULL:
                raise  # where the disk is full, the step itself says so

    def _failure(self, step: str, error: SlurmFsxError | OSError, log: str) -> SlurmFsxError:
        if isinstance(error, NoSpace) or (isinstance(error, OSError) and error.errno in _FULL):
            free = shutil.disk_usage(self._request.root).free
            return NoSpace(
                f"{self._request.root} is full: {TITLES[step]} found no room ({free >> 20} MiB are free now)",
                hint="make room, and run it again: it goes on with this step",
            )
        if isinstance(error, SlurmFsxError):
            message = error.message
            hint = error.hint if not isinstance(error, ProgramFailed) else ""
        else:
            message, hint = f"{error.filename or ''}: {error.strerror}".lstrip(": "), ""
        again = "mend it, and run it again: it goes on with this step"
        return StepFailed(f"{TITLES[step]} failed: {message}", f"{hint}; {again}" if hint else again, self._lines, log)


def _settle(root: str) -> None:
    """Let everybody read and nobody else write, and have all of it on disk, before others can see it."""
    for above, _, files in os.walk(root, topdown=False):
        for name in files:
            path = f"{above}/{name}"
            if os.path.islink(path):
                continue
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.fchmod(fd, 0o755 if os.fstat(fd).st_mode & 0o100 else 0o644)
                os.fsync(fd)
            finally:
                os.close(fd)
        os.chmod(above, _OPEN)
