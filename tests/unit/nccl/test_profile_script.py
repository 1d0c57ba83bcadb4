"""share/profile.d/nccl-shared.sh, in the shells that people log in with."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from slurm_fsx_tools.nccl.installs.top_files import setup_script

SOURCE = Path(__file__).parents[3] / "share/profile.d/nccl-shared.sh"
SHELLS = {"dash": ["dash"], "bash": ["bash"], "bash-as-sh": ["bash", "--posix"], "busybox": ["busybox", "sh"]}
PATH = "/usr/bin:/bin"
NOBODY = 65534


class Session(NamedTuple):
    code: int
    stdout: str
    stderr: str


class Node:
    """A node with the script in its profile.d, and a shared file system of a test's own."""

    def __init__(self, folder: Path, shell: list[str]) -> None:
        self.nccl = folder / "fsx/nccl"
        self.script = self.nccl / "setup-nccl-env.sh"
        self.profile = folder / "nccl-shared.sh"
        self.profile.write_text(SOURCE.read_text().replace("/fsx/nccl", str(self.nccl)))
        self._shell = shell

    def install(self, text: str) -> None:
        self.nccl.mkdir(parents=True, exist_ok=True)
        self.script.write_text(text)

    def log_in(
        self, then: str, options: str = "", environment: dict[str, str] | None = None, user: int = NOBODY
    ) -> Session:
        done = subprocess.run(
            [*self._shell, "-c", f"{options}\n. {self.profile}\n{then}"],
            env={"PATH": PATH, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            user=user if os.geteuid() == 0 else None,
        )
        return Session(done.returncode, done.stdout, done.stderr)


@pytest.fixture(params=SHELLS)
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    """A node in a folder that every user can reach, as pytest's own is not."""
    shell = SHELLS[request.param]
    if shutil.which(shell[0], path=PATH) is None:
        pytest.skip(f"{shell[0]} is not installed")
    old = os.umask(0o022)
    folder = Path(tempfile.mkdtemp(prefix="slurm-fsx-node-"))
    folder.chmod(0o755)
    yield Node(folder, shell)
    shutil.rmtree(folder)
    os.umask(old)


def test_roots_own_session_gets_nothing(node: Node) -> None:
    node.install("export LD_LIBRARY_PATH=/fsx/nccl/lib\n")
    if os.geteuid() != 0:
        pytest.skip("is about root's session: run as root")
    assert node.log_in('echo "${LD_LIBRARY_PATH-none}"', user=0) == (0, "none\n", "")
    assert node.log_in('echo "${LD_LIBRARY_PATH-none}"') == (0, "/fsx/nccl/lib\n", "")


def test_a_session_gets_what_the_setup_script_exports_without_a_word(node: Node) -> None:
    node.install("echo loud; echo loud >&2; export A_LIST=/x:${A_LIST-}\n")
    assert node.log_in('echo "$A_LIST"', environment={"A_LIST": "/mine"}) == (0, "/x:/mine\n", "")


def test_twice_is_once(node: Node) -> None:
    node.install("export A_LIST=/x:$A_LIST\n")
    done = node.log_in(f'. {node.profile}; echo "$A_LIST"')
    assert done.stdout == "/x:\n"


def test_a_strict_session_survives_a_careless_script_and_stays_strict(node: Node) -> None:
    node.install("false; export A=$NOT_SET; unset NOTHING; export B=1; false\n")
    done = node.log_in('echo "$B"; case $- in *e*u*|*u*e*) echo strict;; esac; false; echo no', options="set -eu")
    assert (done.code, done.stdout) == (1, "1\nstrict\n")


def test_a_session_that_is_not_strict_does_not_become_so(node: Node) -> None:
    node.install("export A=1\n")
    assert node.log_in('false; echo "${A}${NOT_SET}"').stdout == "1\n"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("export A=1; exit 0\n", id="exits"),
        pytest.param("export A=1; exit 3\n", id="exits-with-an-error"),
        pytest.param("kill -s KILL $$\n", id="dies"),
    ],
)
def test_a_script_that_would_end_the_session_is_not_sourced(node: Node, text: str) -> None:
    node.install(text)
    done = node.log_in('echo "alive ${A-}"', options="set -eu")
    assert done == (0, "alive \n", "")


def test_without_a_shared_file_system_nothing_happens(node: Node) -> None:
    done = node.log_in("env", options="set -eu")
    assert (done.code, done.stderr) == (0, "")
    assert not [line for line in done.stdout.splitlines() if "slurm_fsx" in line or "fsx" in line.partition("=")[2]]


@pytest.mark.parametrize("kind", ["a-fifo-nobody-writes-to", "a-script-that-never-ends"])
def test_what_hangs_keeps_a_session_for_two_seconds_and_no_longer(node: Node, kind: str) -> None:
    node.install("while :; do sleep 1; done\n")
    if "fifo" in kind:
        node.script.unlink()
        os.mkfifo(node.script, 0o644)
    # Longer than thirty seconds, it would be ended.
    assert node.log_in("echo alive", options="set -eu") == (0, "alive\n", "")


@pytest.mark.parametrize("change", ["writable-script", "writable-folder", "link", "owner"])
def test_what_others_could_have_written_is_not_sourced(node: Node, change: str, needs_root: None) -> None:
    node.install("export A=1\n")
    if change == "writable-script":
        node.script.chmod(0o664)
    elif change == "writable-folder":
        node.nccl.chmod(0o777)
    elif change == "link":
        node.script.rename(node.nccl / "real")
        node.script.symlink_to("real")
    else:
        os.chown(node.script, 1234, 0)
    assert node.log_in('echo "${A-none}"').stdout == "none\n"


def test_a_job_keeps_what_slurm_gave_it(node: Node) -> None:
    node.install("export A=1\n")
    assert node.log_in('echo "${A-none}"', environment={"SLURM_JOB_ID": "7"}).stdout == "none\n"


def test_the_session_is_left_no_names_of_ours(node: Node) -> None:
    node.install("export A=1\n")
    done = node.log_in("set")
    ours = {line.partition("=")[0] for line in done.stdout.splitlines() if line.startswith("_slurm_fsx")}
    assert ours == {"_slurm_fsx_session"}


def test_our_own_setup_script_gives_the_current_version_and_keeps_what_is_set(node: Node) -> None:
    node.install(
        setup_script(str(node.nccl), {"NCCL_DEBUG": "INFO", "NCCL_NET": "AWS Libfabric", "FI_PROVIDER": "efa"})
    )
    version = node.nccl / "versions/2.28.7-1"
    (version / "lib").mkdir(parents=True)
    (version / ".nccl_version").write_text("v2.28.7-1\n")
    (node.nccl / "current").symlink_to("versions/2.28.7-1")
    show = 'echo "$LD_LIBRARY_PATH|$NCCL_VERSION|$NCCL_DEBUG|$NCCL_NET"'
    given = {"LD_LIBRARY_PATH": "/mine", "NCCL_DEBUG": "WARN"}
    done = node.log_in(f". {node.profile}; {show}", "set -eu", given)
    assert done == (0, f"{version}/lib:/mine|v2.28.7-1|WARN|AWS Libfabric\n", "")
    assert node.log_in(show.replace("|", " "), "set -eu").code == 0


def test_our_own_setup_script_without_a_version_gives_nothing(node: Node) -> None:
    node.install(setup_script(str(node.nccl), {"NCCL_DEBUG": "INFO"}))
    assert node.log_in('echo "${NCCL_DEBUG-none} ${LD_LIBRARY_PATH-none}"', "set -eu") == (0, "none none\n", "")


def test_a_job_that_sources_the_setup_script_keeps_the_version_that_it_started_with(node: Node) -> None:
    node.install(setup_script(str(node.nccl), {}))
    for version in ("old", "new"):
        (node.nccl / f"versions/{version}/lib").mkdir(parents=True)
    (node.nccl / "current").symlink_to("versions/new")
    show = f'. {node.script}; echo "$LD_LIBRARY_PATH"'
    job = {"SLURM_JOB_ID": "7", "LD_LIBRARY_PATH": f"/mine:{node.nccl}/versions/old/lib:/usr/local/lib"}
    assert node.log_in(show, "set -eu", job).stdout == f"{node.nccl}/versions/old/lib:/mine:/usr/local/lib\n"
    # Without a version of its own, and outside of jobs, it is the one of now.
    assert node.log_in(show, "set -eu", {"SLURM_JOB_ID": "7"}).stdout == f"{node.nccl}/versions/new/lib\n"
    del job["SLURM_JOB_ID"]
    assert node.log_in(show, "set -eu", job).stdout == f"{node.nccl}/versions/new/lib:/mine:/usr/local/lib\n"
