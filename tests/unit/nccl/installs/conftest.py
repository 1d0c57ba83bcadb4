"""Small source trees with the interfaces of NCCL, its network plugin and nccl-tests, and a site to install them on."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from slurm_fsx_tools.cli.nccl import nccl
from slurm_fsx_tools.errors import SlurmFsxError

NCCL_C = """\
int ncclGetVersion(int *version)
{
	*version = NUMBER;
	return 0;
}
"""
PLUGIN_C = 'const char *maker = "NET/OFI Initializing aws-ofi-nccl 1.17.2-aws";\n'

NCCL_MAKEFILE = """\
BUILDDIR ?= $(CURDIR)/build
PREFIX ?= /usr/local
src.build:
	sh CONTROL/at nccl
	mkdir -p $(BUILDDIR)/lib/pkgconfig $(BUILDDIR)/include
	$(CC) -shared -fPIC -Wl,-soname,libnccl.so.2 -o $(BUILDDIR)/lib/libnccl.so.2.28.7 nccl.c
	ln -sf libnccl.so.2.28.7 $(BUILDDIR)/lib/libnccl.so.2
	ln -sf libnccl.so.2 $(BUILDDIR)/lib/libnccl.so
	cp nccl.h $(BUILDDIR)/include
	test -f $(BUILDDIR)/lib/pkgconfig/nccl.pc || echo "prefix=$(PREFIX)" >$(BUILDDIR)/lib/pkgconfig/nccl.pc
	echo "$(NVCC_GENCODE) $(CUDA_HOME)" >$(BUILDDIR)/include/how
install:
	sh CONTROL/at install
	mkdir -p $(PREFIX)/lib $(PREFIX)/include
	cp -PR $(BUILDDIR)/lib/. $(PREFIX)/lib
	cp $(BUILDDIR)/include/* $(PREFIX)/include
"""

CONFIGURE = """\
#!/bin/sh
for argument in "$@"; do
	case $argument in
	--prefix=*) prefix=${argument#*=} ;;
	--with-libfabric=*) libfabric=${argument#*=} ;;
	esac
done
test -f "$libfabric/include/rdma/fabric.h" || { echo "configure: error: no libfabric" >&2; exit 1; }
sed "s|@prefix@|$prefix|" Makefile.in >Makefile
"""

PLUGIN_MAKEFILE = """\
all:
	sh CONTROL/at ofi
	$(CC) -shared -fPIC -o libnccl-net-ofi.so plugin.c
install:
	mkdir -p $(DESTDIR)@prefix@/lib
	cp libnccl-net-ofi.so $(DESTDIR)@prefix@/lib
	ln -sf libnccl-net-ofi.so $(DESTDIR)@prefix@/lib/libnccl-net.so
"""

TESTS_MAKEFILE = """\
BUILDDIR ?= build
build:
	sh CONTROL/at tests
	test -f $(NCCL_HOME)/include/nccl.h
	mkdir -p $(BUILDDIR)
	printf '#!/bin/sh\\necho "MPI=$(MPI)"\\n' >$(BUILDDIR)/all_reduce_perf
	chmod 755 $(BUILDDIR)/all_reduce_perf
"""

# Notes that a step's program runs, waits as long as it shall, and fails where it shall.
AT = """\
echo "$1" >>{control}/steps
while [ -e "{control}/wait-$1" ]; do sleep 0.05; done
if [ -e "{control}/fail-$1" ]; then echo "error: broken in $1" >&2; exit 7; fi
if [ -e "{control}/fill-$1" ]; then head -c 200000000 /dev/zero >filler; fi
"""


class Done(NamedTuple):
    """What a command did."""

    exit_code: int
    stdout: str
    stderr: str
    exception: SlurmFsxError | None = None


class Place:
    """A shared file system, sources beside it, and the commands about NCCL."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fsx = folder / "fsx"
        self.root = self.fsx / "nccl"
        self.control = folder / "control"
        self.sources = folder / "sources"
        self.fsx.mkdir()
        self.control.mkdir()
        self.config = folder / "config.yaml"
        self.config.write_text(
            yaml.dump(
                {
                    "fsx": {"root": str(self.fsx)},
                    "runtime_dir": str(folder / "run"),
                    "prolog": {"plugins_dir": str(folder / "plugins.d")},
                }
            )
        )
        (self.control / "at").write_text(AT.format(control=self.control))
        self.write(
            "nccl", {"Makefile": NCCL_MAKEFILE, "nccl.c": NCCL_C.replace("NUMBER", "22807"), "nccl.h": "/* */\n"}
        )
        self.write(
            "ofi",
            {"autogen.sh": "cp configure.in configure\n", "configure.in": CONFIGURE, "plugin.c": PLUGIN_C,
             "Makefile.in": PLUGIN_MAKEFILE},
        )  # fmt: skip
        self.write("tests", {"Makefile": TESTS_MAKEFILE})
        for path, text in (
            ("cuda/bin/nvcc", "#!/bin/sh\necho 'Cuda compilation tools, release 13.0, V13.0.88'\n"),
            ("efa/include/rdma/fabric.h", "#define FI_MAJOR_VERSION 2\n#define FI_MINOR_VERSION 1\n"),
        ):
            (folder / path).parent.mkdir(parents=True)
            (folder / path).write_text(text)
            (folder / path).chmod(0o755)

    def write(self, part: str, files: dict[str, str]) -> None:
        for name, text in files.items():
            path = self.sources / part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("CONTROL", str(self.control)))

    def repository(self, part: str, *tags: str) -> str:
        folder = str(self.sources / part)
        git = ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "init", "--quiet", folder], check=True)
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "--quiet", "-m", "all"], check=True)
        for tag in tags:
            subprocess.run([*git, "tag", tag], check=True)
        return folder

    def tarball(self, part: str) -> str:
        path = self.folder / f"{part}.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            archive.add(self.sources / part, f"{part}-1.0")
        return str(path)

    def install_arguments(self, *more: str) -> list[str]:
        arguments = ["install", "--nccl=v2.28.7-1", "--ofi=v1.17.2-aws", f"--prefix={self.fsx}", "--gencode=sm_90"]
        given = [argument.partition("=")[0] for argument in more]
        parts = [part for part in ("nccl", "ofi", "tests") if f"--{part}-source" not in given]
        arguments += [f"--{part}-source={self.sources / part}" for part in parts]
        homes = [f"--cuda-home={self.folder / 'cuda'}", f"--libfabric-home={self.folder / 'efa'}"]
        return [*arguments, *homes, "--jobs=1", *more]

    def install(self, *more: str) -> Done:
        return self.run(*self.install_arguments(*more))

    def begin(self, *more: str) -> subprocess.Popen[str]:
        """Start an install as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "slurm_fsx_tools", "nccl", *self.install_arguments(*more)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "SLURM_FSX_CONFIG": str(self.config)},
        )

    def run(self, *arguments: str) -> Done:
        out, err = io.StringIO(), io.StringIO()
        code, exception = 0, None
        with redirect_stdout(out), redirect_stderr(err):
            try:
                nccl.main(list(arguments), standalone_mode=False)
            except SystemExit as end:
                code = int(end.code or 0)
            except SlurmFsxError as error:
                code, exception = error.exit_code, error
        return Done(code, out.getvalue(), err.getvalue(), exception)

    @property
    def current(self) -> str:
        return os.readlink(self.root / "current")

    @property
    def steps(self) -> list[str]:
        """The steps whose programs have run, in order."""
        try:
            return (self.control / "steps").read_text().split()
        except FileNotFoundError:
            return []


def wait_for(condition: object, limit_s: float = 60.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + limit_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    place = Place(tmp_path)
    monkeypatch.setenv("SLURM_FSX_CONFIG", str(place.config))
    return place
