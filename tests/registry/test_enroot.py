"""An enroot that fails: what is taken in its place, and what is tried again. Debian has no enroot to make fail."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from slurm_fsx_tools.containers.imports.options import Retries
from slurm_fsx_tools.containers.imports.state import WAITING
from slurm_fsx_tools.containers.records import read_record
from slurm_fsx_tools.programs import ProgramFailed

if TYPE_CHECKING:
    from .conftest import Importing, Lab

NO_OCI = "[ERROR] URL http://127.0.0.1/v2/lab/small/manifests/1 returned error code: 404 Not Found"
NO_CAPABILITIES = "enroot-aufs2ovlfs: failed to set capabilities: Operation not permitted"
ODD = "gzip: stdin: unexpected end of file"
NO_NETWORK = "curl: (7) Failed to connect to 127.0.0.1 port 1: Connection refused"


class Enroot:
    """A program that fails in enroot's words, and counts how often."""

    def __init__(self, folder: Path, path: str) -> None:
        self._count = folder / "count"
        self._program = folder / "enroot"
        self.path = f"{folder}:{path}"

    def say(self, *lines: str) -> None:
        self._count.write_text("")
        echoes = "\n".join(f"echo '{line}'" for line in lines)
        self._program.write_text(f"#!/bin/sh\necho x >> {self._count}\n{echoes}\nexit 1\n")
        self._program.chmod(0o755)

    @property
    def runs(self) -> int:
        return len(self._count.read_text().split())


@pytest.fixture
def enroot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Enroot:
    (tmp_path / "bin").mkdir()
    program = Enroot(tmp_path / "bin", "/usr/bin:/bin:/usr/sbin:/sbin")
    monkeypatch.setenv("PATH", program.path)
    return program


@pytest.mark.parametrize("line", [NO_OCI, NO_CAPABILITIES, ODD], ids=["oci-manifest", "capabilities", "else"])
def test_where_enroot_itself_fails_skopeo_does_it_at_once(
    importing: Importing, lab: Lab, enroot: Enroot, line: str
) -> None:
    enroot.say("[INFO] Querying registry", line, "[INFO] Cleaning up")
    uri = f"{lab.registry.host}/lab/small:1"
    assert importing.bring(uri, importer="auto", retries=Retries(attempts=1)).is_new
    assert enroot.runs == 1
    record = read_record(importing.store, importing.path(uri).name)
    assert record is not None
    assert record.importer == "skopeo"
    [note] = [progress.text for progress in importing.told if progress.phase == WAITING]
    assert note.endswith(": taking skopeo and umoci instead")
    assert importing.leftovers() == []


@pytest.mark.parametrize(
    ("line", "runs"),
    [
        pytest.param(NO_NETWORK, 3, id="network"),
        pytest.param(ODD, 3, id="else"),
        pytest.param(NO_OCI, 1, id="oci-manifest"),
        pytest.param(NO_CAPABILITIES, 1, id="capabilities"),
    ],
)
def test_where_enroot_is_asked_for_only_what_may_pass_is_tried_again(
    importing: Importing, lab: Lab, enroot: Enroot, line: str, runs: int
) -> None:
    enroot.say(line)
    retries = Retries(attempts=3, first_wait_s=0.01)
    with pytest.raises(ProgramFailed, match="enroot ended with 1"):
        importing.bring(f"{lab.registry.host}/lab/small:1", importer="enroot", retries=retries)
    assert enroot.runs == runs


def test_where_the_network_fails_enroot_skopeo_is_not_taken(importing: Importing, lab: Lab, enroot: Enroot) -> None:
    enroot.say(NO_NETWORK)
    with pytest.raises(ProgramFailed, match="Failed to connect"):
        importing.bring(f"{lab.registry.host}/lab/small:1", importer="auto", retries=Retries(attempts=1))
    assert enroot.runs == 1
