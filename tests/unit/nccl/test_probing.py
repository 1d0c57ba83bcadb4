"""What a task sees: the probe is run here by sh, as a job runs it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from slurm_fsx_tools.errors import SlurmFsxError
from slurm_fsx_tools.nccl.probing import (
    Probe,
    is_worth_keeping,
    judge_environment,
    judge_loading,
    keep,
    kept,
    kept_path,
    probe_command,
    read_probe,
)
from slurm_fsx_tools.nccl.verifying import Finding

FOLDERS = ["/fsx/nccl/versions/9/lib", "/fsx/nccl/current/lib"]


def run(*libraries: str, shell: tuple[str, ...] = ("/bin/sh",), **environment: str) -> Probe:
    command = [*shell, *probe_command(libraries)[1:]]
    done = subprocess.run(command, env={"PATH": "/usr/bin:/bin", **environment}, stdout=subprocess.PIPE, check=True)
    return read_probe(b"a banner\n" + done.stdout)


def library(path: Path, source: str, *arguments: str) -> str:
    command = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-x", "none", "-o", str(path), *arguments]
    subprocess.run(command, input=source.encode(), check=True)
    return str(path)


@pytest.mark.parametrize("shell", [("/bin/sh",), ("/bin/bash",), ("/bin/busybox", "sh")], ids=lambda shell: shell[-1])
def test_environment_and_libraries_are_seen_by_any_shell(tmp_path: Path, shell: tuple[str, ...]) -> None:
    good = library(tmp_path / "libgood.so", "int f(void) { return 0; }")
    probe = run(good, f"{tmp_path}/none.so", shell=shell, TWO="one\ntwo=three", LD_LIBRARY_PATH="/a:/b")
    assert probe.environment["TWO"] == "one\ntwo=three"
    assert [finding[:3] for finding in judge_loading(probe, "here")] == [
        ("libgood.so here", "ok", "nothing is missing"),
        ("none.so here", "failed", f"{tmp_path}/none.so is not to be seen there"),
    ]


def test_a_library_that_would_not_load_as_a_plugin_is_found(tmp_path: Path) -> None:
    # The loader's list is content with it: only when all symbols are bound does the missing one show.
    unresolved = library(tmp_path / "libu.so", "int missing_one(void); int f(void) { return missing_one(); }")
    text = tmp_path / "libtext.so"
    text.write_text("no library")
    found = judge_loading(run(unresolved, str(text)), "here")
    assert [finding.state for finding in found] == ["failed", "failed"]
    assert "undefined symbol: missing_one" in found[0].detail


def test_half_an_answer_is_none() -> None:
    with pytest.raises(SlurmFsxError, match="not whole"):
        read_probe(b"\0slurm-fsx-probe env\0A=1\0")
    with pytest.raises(SlurmFsxError, match="not whole"):
        read_probe(b"")


@pytest.mark.parametrize(
    ("path", "nccl", "is_image", "state", "detail"),
    [
        ("/fsx/nccl/current/lib:/x", "", False, "ok", "LD_LIBRARY_PATH has /fsx/nccl/current/lib"),
        ("/x:/fsx/nccl/versions/9/lib/", "", False, "ok", "LD_LIBRARY_PATH has /fsx/nccl/versions/9/lib, after /x"),
        ("/x", "", False, "failed", "LD_LIBRARY_PATH is /x"),
        ("", "2.20", False, "failed", "LD_LIBRARY_PATH is not set"),
        ("", "2.20", True, "ok", "the image has an NCCL of its own (2.20), and uses that"),
        ("", "", True, "warning", "LD_LIBRARY_PATH leads to no such library"),
    ],
)
def test_a_task_finds_the_version_or_is_told_why_not(
    path: str, nccl: str, is_image: bool, state: str, detail: str
) -> None:
    probe = Probe({"LD_LIBRARY_PATH": path, "NCCL_VERSION": nccl}, {})
    finding = judge_environment(probe, FOLDERS, "job", is_image)
    assert (finding.state, finding.detail) == (state, detail)


def test_what_was_found_of_an_image_is_kept_by_version_and_digest(tmp_path: Path) -> None:
    path = kept_path(str(tmp_path), "9", "sha256:ab/../c")
    assert path == f"{tmp_path}/.loading/9/sha256_ab_.._c.json"
    assert kept(path, "in image x") == []
    keep(path, [Finding("libnccl.so.2 in container y", "ok", "nothing is missing")], 1e9)
    assert kept(path, "in image x") == [
        Finding("libnccl.so.2 in image x", "ok", "nothing is missing (seen 2001-09-09)")
    ]
    Path(path).chmod(0o666)
    assert kept(path, "in image x") == []


def test_that_an_image_did_not_get_to_see_the_libraries_is_not_kept() -> None:
    assert not is_worth_keeping(Probe({}, {"/a": "missing\n", "/b": "status 0\n"}))
    assert is_worth_keeping(Probe({}, {"/a": "no loader\n"}))
    assert not is_worth_keeping(Probe({}, {}))
