"""Whether a version's files are whole and load: with real libraries, and real ways to break them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from lab.nccl_version import VERSION, install_version
from slurm_fsx_tools.nccl.manifest import Manifest
from slurm_fsx_tools.nccl.verifying import Finding, check_files, judge_linkage, libraries_to_load

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")

WHEN_LOADED = """\
#include <stdlib.h>
#include <unistd.h>
__attribute__((constructor)) void when_loaded(void) {{ {}; }}
"""


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shared file system with a version, built once."""
    fsx = tmp_path_factory.mktemp("built")
    install_version(fsx)
    return fsx


@pytest.fixture
def fsx(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "fsx", symlinks=True))


@pytest.fixture
def folder(fsx: Path) -> Path:
    return fsx / "nccl/versions" / VERSION


def look(fsx: Path, limit_s: float = 20) -> dict[str, Finding]:
    return {finding.check: finding for finding in check_files(str(fsx / "nccl"), VERSION, limit_s)}


def change_manifest(folder: Path, **fields: object) -> None:
    path = folder / "manifest.json"
    path.write_bytes(Manifest.parse(path.read_bytes(), str(path))._replace(**fields).format())


def library(path: Path, source: str, *arguments: str) -> None:
    command = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-x", "none", "-o", str(path), *arguments]
    subprocess.run(command, input=source.encode(), check=True)


def test_a_whole_version_is_found_whole(fsx: Path, folder: Path) -> None:
    found = look(fsx)
    assert {check: finding.state for check, finding in found.items()} == dict.fromkeys(
        [
            *("manifest", "files", "version", "linkage of libnccl.so.2"),
            *("linkage of libnccl-net-ofi.so", "linkage of all_reduce_perf"),
        ],
        "ok",
    )
    assert found["manifest"].detail == "NCCL 2.28.7-1, plugin 1.17.2-aws, CUDA 13.0"
    assert found["version"].detail == "the library says 2.28.7"
    names = [f"{folder}/lib/libnccl.so.2", f"{folder}/lib/libnccl-net-ofi.so"]
    assert libraries_to_load(str(fsx / "nccl"), VERSION) == names


@pytest.mark.parametrize(
    ("file", "missing"),
    [
        ("lib/libnccl.so.2", "lib/libnccl.so.2"),
        ("include/nccl.h", "include/nccl.h"),
        ("lib/libnccl-net-ofi.so", "lib/libnccl-net-ofi.so"),
        ("bin/all_reduce_perf", "bin/all_reduce_perf"),
    ],
)
def test_a_file_that_the_manifest_promises_is_missed(fsx: Path, folder: Path, file: str, missing: str) -> None:
    (folder / file).unlink()
    finding = look(fsx)["files"]
    assert finding.state == "failed"
    assert finding.detail.endswith(missing)
    assert "install this version again" in finding.hint


def test_what_the_manifest_does_not_promise_is_not_missed(fsx: Path, folder: Path) -> None:
    change_manifest(folder, ofi="", tests="")
    (folder / "lib/libnccl-net-ofi.so").unlink()
    (folder / "bin/all_reduce_perf").unlink()
    assert {finding.state for finding in look(fsx).values()} == {"ok"}
    assert libraries_to_load(str(fsx / "nccl"), VERSION) == [f"{folder}/lib/libnccl.so.2"]


@pytest.mark.parametrize("where", ["efa/lib", ""])
def test_the_plugin_is_looked_for_where_the_manifest_says(fsx: Path, folder: Path, where: str, tmp_path: Path) -> None:
    target = tmp_path / where if where else folder / "lib"
    target.mkdir(parents=True, exist_ok=True)
    shutil.move(folder / "lib/libnccl-net-ofi.so", target / "libnccl-net.so")
    change_manifest(folder, ofi_folder=str(target) if where else "")
    assert look(fsx)["linkage of libnccl-net.so"].state == "ok"


@pytest.mark.parametrize(
    ("text", "detail"),
    [(None, "manifest.json is missing"), ("{}", "is no manifest of this software"), ("{", "is no manifest")],
)
def test_without_a_manifest_nothing_is_known(fsx: Path, folder: Path, text: str | None, detail: str) -> None:
    (folder / "manifest.json").unlink()
    if text is not None:
        (folder / "manifest.json").write_text(text)
    found = look(fsx)
    assert list(found) == ["manifest"]
    assert found["manifest"].state == "failed"
    assert detail in found["manifest"].detail


def test_a_manifest_of_another_version_does_not_pass(fsx: Path, folder: Path) -> None:
    change_manifest(folder, id="2.27.0")
    assert look(fsx)["manifest"].detail == "it is that of 2.27.0"


def test_a_library_of_another_version_than_the_manifest_says_is_found(fsx: Path, folder: Path) -> None:
    change_manifest(folder, nccl="v2.27.3-1")
    finding = look(fsx)["version"]
    assert (finding.state, finding.detail) == ("failed", "the library says 2.28.7, the manifest 2.27.3")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        pytest.param("int other(void) { return 0; }", "undefined symbol: ncclGetVersion", id="another library"),
        pytest.param(
            "#include <stdlib.h>\n__attribute__((constructor)) void a(void) { abort(); }", "ended with -6", id="crash"
        ),
        pytest.param(
            "#include <unistd.h>\n__attribute__((constructor)) void a(void) { pause(); }",
            "did not load within 1 s",
            id="hang",
        ),
    ],
)
def test_a_library_that_crashes_or_hangs_harms_nobody(fsx: Path, folder: Path, source: str, said: str) -> None:
    library(folder / "lib/libnccl.so.2", source)
    finding = look(fsx, limit_s=1)["version"]
    assert finding.state == "failed"
    assert said in finding.detail


@pytest.mark.usefixtures("needs_root")
@pytest.mark.parametrize("file", ["lib/libnccl.so.2", "lib", "bin/all_reduce_perf"])
def test_what_a_user_could_have_written_is_not_loaded(fsx: Path, folder: Path, file: str) -> None:
    os.chown(folder / file, 2001, 2001)
    found = look(fsx)
    assert list(found) == ["manifest", "files", "owner"]
    assert (found["owner"].state, f"{file} belongs to user 2001" in found["owner"].detail) == ("failed", True)


def test_a_file_that_is_no_library_is_found(fsx: Path, folder: Path) -> None:
    (folder / "lib/libnccl.so.2").write_text("half a download")
    found = look(fsx)
    assert (found["version"].state, found["linkage of libnccl.so.2"].state) == ("failed", "failed")
    assert "file too short" in found["version"].detail or "invalid ELF header" in found["version"].detail


def test_a_plugin_whose_libraries_are_not_there_is_found(fsx: Path, folder: Path, tmp_path: Path) -> None:
    library(tmp_path / "libfabric.so.1", "int fi(void) { return 0; }", "-Wl,-soname,libfabric.so.1")
    source = "int fi(void); int plugin(void) { return fi(); }"
    library(folder / "lib/libnccl-net-ofi.so", source, str(tmp_path / "libfabric.so.1"))
    finding = look(fsx)["linkage of libnccl-net-ofi.so"]
    assert finding.state == "failed"
    assert finding.detail.endswith("libnccl-net-ofi.so does not find libfabric.so.1")
    assert "on sockets" in finding.why


def test_another_machines_version_is_not_loaded_here(fsx: Path, folder: Path) -> None:
    other = "aarch64" if os.uname().machine != "aarch64" else "x86_64"
    change_manifest(folder, machine=other)
    (folder / "lib/libnccl.so.2").write_text("another machine's")
    found = look(fsx)
    assert (found["version"].state, found["linkage"].state) == ("skipped", "skipped")


@pytest.mark.parametrize(
    ("output", "code", "state", "detail"),
    [
        ("\tlibc.so.6 => /lib/libc.so.6 (0x7f)\n\tlinux-vdso.so.1 (0x7f)\n", 0, "ok", "nothing is missing"),
        ("\tliba.so.1 => not found\n\tlibb.so.1 => not found\n", 0, "failed", "does not find liba.so.1, libb.so.1"),
        (
            "/l: /lib/libc.so.6: version `GLIBC_2.38' not found (required by /l)\n\tlibc.so.6 => /lib/libc.so.6\n",
            1,
            "failed",
            "needs GLIBC_2.38, which is newer",
        ),
        ("true: symbol lookup error: /l: undefined symbol: fi_open", 127, "failed", "undefined symbol: fi_open"),
        ("\tnot a dynamic executable\n", 1, "failed", "/l: not a dynamic executable"),
        ("", 139, "failed", "ended with 139"),
    ],
)  # fmt: skip
def test_what_the_loader_says_is_understood(output: str, code: int, state: str, detail: str) -> None:
    finding = judge_linkage("x", "/l", output, code)
    assert finding.state == state
    assert detail in finding.detail
