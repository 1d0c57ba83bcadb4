from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_fsx_tools.errors import SlurmFsxError
from slurm_fsx_tools.jobenv import JobEnv
from slurm_fsx_tools.nccl.setup_script import NOBODY, SEARCH_PATH, sort_exports, source_script

LIMIT_S = 5.0


def source(folder: Path, text: str, limit_s: float = LIMIT_S) -> dict[str, str]:
    script = folder / "it's a script.sh"
    script.write_text(text)
    return source_script(str(script), limit_s)


def is_running(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ends(pid: int) -> bool:
    end = time.monotonic() + 5
    while is_running(pid) and time.monotonic() < end:
        time.sleep(0.01)
    return not is_running(pid)


def test_what_the_script_exports_comes_back(folder: Path) -> None:
    environment = source(folder, "export NCCL_SOCKET_IFNAME=en FI_LOG_LEVEL=warn\nINNER=1\n")
    assert environment["NCCL_SOCKET_IFNAME"] == "en"
    assert environment["FI_LOG_LEVEL"] == "warn"
    assert "INNER" not in environment


def test_the_script_starts_with_a_search_path_and_nothing_else(folder: Path) -> None:
    names = source(folder, "export SEEN=$(/usr/bin/env | cut -d= -f1 | sort | tr '\\n' ' ')")["SEEN"].split()
    assert set(names) <= {"PATH", "PWD", "SHLVL", "_", "OLDPWD"}


def test_the_script_knows_that_it_is_sourced_and_where_it_is(folder: Path) -> None:
    environment = source(
        folder,
        '[[ "${BASH_SOURCE[0]}" == "$0" ]] && exit 1\n'
        'export HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)" ARGUMENTS="$#"\n',
    )
    assert environment["HERE"] == str(folder)
    assert environment["ARGUMENTS"] == "0"


def test_where_there_is_no_bash_any_shell_will_do(folder: Path) -> None:
    script = folder / "setup.sh"
    script.write_text("export PATH=/n/bin:$PATH\necho chatter\n")
    environment = source_script(str(script), LIMIT_S, shells=("/nonexistent/bash", "/bin/sh"))
    assert environment["PATH"] == f"/n/bin:{SEARCH_PATH}"
    script.write_text("exit 3")
    with pytest.raises(SlurmFsxError, match="status 3"):
        source_script(str(script), LIMIT_S, shells=("/bin/sh",))
    with pytest.raises(SlurmFsxError, match="status 127"):
        source_script(str(script), LIMIT_S, shells=())


def test_root_sources_it_as_nobody(folder: Path, needs_root: None) -> None:
    environment = source(folder, "export WHO=$(id -u):$(id -G) RIGHTS=$(grep NoNewPrivs /proc/self/status) CWD=$PWD")
    assert environment["WHO"] == f"{NOBODY}:{NOBODY}"
    assert environment["RIGHTS"].split() == ["NoNewPrivs:", "1"]
    assert environment["CWD"] == "/"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("head -c 5000000 /dev/zero | tr '\\0' x; head -c 5000000 /dev/zero >&2", id="prints-megabytes"),
        pytest.param("sleep 60 &", id="leaves-a-process-that-holds-the-pipe"),
        pytest.param("read line", id="reads-its-input"),
        pytest.param("exec >/nonexistent/file 2>&1", id="loses-its-output"),
        pytest.param("trap 'echo bye; exit 1' EXIT", id="has-a-trap"),
        pytest.param("env() { echo no; }; PATH=/nonexistent", id="hides-env"),
        pytest.param("set -eu; : ${LD_LIBRARY_PATH:-}", id="is-strict"),
        pytest.param("false", id="ends-with-a-failed-command"),
        pytest.param("return 4", id="returns"),
        pytest.param("unset PATH", id="unsets-all-there-is"),
    ],
)
def test_a_script_with_bad_manners_is_understood_all_the_same(folder: Path, text: str) -> None:
    began = time.monotonic()
    assert source(folder, f"export GOOD=1\n{text}\n")["GOOD"] == "1"
    assert time.monotonic() - began < LIMIT_S / 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("exit 3", "ended its shell with status 3", id="exits-3"),
        pytest.param("exit 0", "ended its shell with status 0", id="exits-0"),
        pytest.param("set -e; false", "ended its shell with status 1", id="stops-at-an-error"),
        pytest.param("set -u; : $NOT_SET", "ended its shell with status", id="names-an-unset-variable"),
        pytest.param("kill -9 $$", "ended its shell with signal 9", id="kills-its-shell"),
        pytest.param("exec sleep 0", "ended its shell with status 0", id="becomes-another-program"),
        pytest.param("export BIG=$(head -c 70000 /dev/zero | tr '\\0' x)", "more than 64 KiB", id="exports-megabytes"),
        pytest.param("while :; do echo x; done >&9", "more than 64 KiB", id="floods-the-answer"),
    ],
)
def test_a_script_that_does_not_come_to_its_end_is_an_error(folder: Path, text: str, message: str) -> None:
    with pytest.raises(SlurmFsxError, match=message):
        source(folder, f"export GOOD=1\n{text}\n")


def test_a_script_that_is_not_there_is_an_error(folder: Path) -> None:
    with pytest.raises(SlurmFsxError, match="absent cannot be read"):
        source_script(str(folder / "absent"), LIMIT_S)


def test_a_script_that_nobody_may_read_is_an_error(folder: Path, needs_root: None) -> None:
    script = folder / "private.sh"
    script.touch(0o600)
    with pytest.raises(SlurmFsxError, match=r"private\.sh cannot be read by everybody"):
        source_script(str(script), LIMIT_S)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("echo $$ >pids; sleep 60", id="sleeps"),
        pytest.param("trap '' TERM INT HUP; echo $$ >pids; while :; do :; done", id="spins-and-ignores-signals"),
        pytest.param("sleep 60 & echo $! $$ >pids; wait", id="waits-for-another"),
    ],
)
def test_a_script_that_does_not_end_is_killed_with_all_it_started(folder: Path, text: str) -> None:
    pids = folder / "pids"
    pids.touch()
    pids.chmod(0o666)
    began = time.monotonic()
    with pytest.raises(SlurmFsxError, match=r"took longer than 0\.3 s"):
        source(folder, text.replace("pids", str(pids)), 0.3)
    assert time.monotonic() - began < 1
    assert pids.read_text()
    assert all(ends(int(pid)) for pid in pids.read_text().split())


def test_what_a_script_leaves_behind_is_killed(folder: Path) -> None:
    pid = int(source(folder, "sleep 60 & export CHILD=$!")["CHILD"])
    assert ends(pid)


def test_no_child_and_no_descriptor_stays(folder: Path) -> None:
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    before = os.listdir("/proc/self/fd"), children.read_text()
    source(folder, "sleep 60 &")
    assert (os.listdir("/proc/self/fd"), children.read_text()) == before


def test_what_shells_set_by_themselves_is_no_export(folder: Path) -> None:
    assert sort_exports(source(folder, "cd /usr; export ONE=1")).variables == {"ONE": "1"}


@pytest.mark.parametrize(
    ("text", "lists"),
    [
        pytest.param("export PATH=/n/bin:$PATH", {"PATH": ["/n/bin"]}, id="in-front"),
        pytest.param("export PATH=$PATH:/n/bin:/n/sbin", {"PATH": ["/n/bin", "/n/sbin"]}, id="behind"),
        pytest.param("export PATH=$PATH", {}, id="unchanged"),
        pytest.param("export LD_LIBRARY_PATH=/n/lib:$LD_LIBRARY_PATH", {"LD_LIBRARY_PATH": ["/n/lib"]}, id="was-empty"),
        pytest.param("export CPATH=/n/a:/n/b:/n/a", {"CPATH": ["/n/a", "/n/b"]}, id="twice"),
        pytest.param("export MY_PLUGIN_PATH=/n/a:/n/b", {"MY_PLUGIN_PATH": ["/n/a", "/n/b"]}, id="by-its-looks"),
    ],
)
def test_a_search_path_is_taken_apart(folder: Path, text: str, lists: dict[str, list[str]]) -> None:
    exports = sort_exports(source(folder, text))
    assert exports.lists == lists
    assert not exports.variables
    assert not exports.refused


def test_a_path_that_is_no_list_stays_whole() -> None:
    exports = sort_exports({"CUDA_PATH": "/usr/local/cuda", "DOCS_PATH": "https://docs"})
    assert exports.variables == {"CUDA_PATH": "/usr/local/cuda", "DOCS_PATH": "https://docs"}


def test_a_folder_below_the_jobs_own_is_never_searched() -> None:
    exports = sort_exports({"LD_LIBRARY_PATH": "lib:/n/lib::.", "PATH": SEARCH_PATH})
    assert exports.lists == {"LD_LIBRARY_PATH": ["/n/lib"]}
    assert list(exports.refused) == ["LD_LIBRARY_PATH"]


@pytest.mark.parametrize(
    "name",
    ["HOME", "USER", "SLURM_JOBID", "SPANK_X", "_SLURM_SPANK_OPTION_pyxis_container_image", "PYXIS_CONTAINER_IMAGE",
     "SBATCH_PARTITION", "CUDA_VISIBLE_DEVICES", "LD_PRELOAD", "LD_AUDIT", "BASH_ENV", "BASH_FUNC_ls%%", "ENV",
     "MANPATH", "not-a-name", "1ST"],
)  # fmt: skip
def test_what_no_job_should_get_is_refused_with_a_reason(name: str) -> None:
    exports = sort_exports({name: "/x"})
    assert list(exports.refused) == [name]
    assert exports.refused[name]
    assert not exports.variables
    assert not exports.lists


def test_functions_and_line_breaks_are_refused(folder: Path) -> None:
    exports = sort_exports(source(folder, "f() { :; }; export -f f; export LINES_OF_TEXT=$'a\\nb' GOOD=1"))
    assert set(exports.refused) == {"BASH_FUNC_f%%", "LINES_OF_TEXT"}
    assert exports.variables == {"GOOD": "1"}


words = st.text(st.characters(exclude_characters="\0"))


@given(st.dictionaries(st.one_of(words, st.sampled_from(["PATH", "A_PATH", "HOME", "A"])), words))
def test_whatever_is_exported_what_is_left_can_be_written_into_a_jobs_environment(environment: dict[str, str]) -> None:
    # As os.environ would hold it: no lone surrogates but those of undecodable bytes.
    environment = {
        name: value.encode("utf-8", "replace").decode("utf-8", "surrogateescape") for name, value in environment.items()
    }
    exports = sort_exports(environment)
    env = JobEnv()
    for name, value in exports.variables.items():
        env.default(name, value)
    for name, entries in exports.lists.items():
        env.prepend(name, ":".join(entries))
        assert all(entry.startswith("/") for entry in entries)
    assert not set(exports.variables) & set(exports.lists)
    assert not set(exports.variables) & set(exports.refused)
