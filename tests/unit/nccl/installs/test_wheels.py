"""NCCL as NVIDIA compiled it: from a file, and, in minutes, from the package index itself."""

from __future__ import annotations

import hashlib
import json
import subprocess
import zipfile
from pathlib import Path

import pytest

from slurm_fsx_tools.errors import InvalidVersion
from slurm_fsx_tools.nccl.library import LibraryUnusable, library_version, version_text

from .conftest import NCCL_C, Place


@pytest.fixture
def wheel(place: Place) -> str:
    library = place.folder / "libnccl.so.2"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, place.sources / "nccl/nccl.c"], check=True)
    path = place.folder / "nvidia_nccl_cu12-2.28.7-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(library, "nvidia/nccl/lib/libnccl.so.2")
        archive.writestr("nvidia/nccl/include/nccl.h", "/* */\n")
        archive.writestr("nvidia_nccl_cu12-2.28.7.dist-info/RECORD", "")
    return str(path)


def from_wheel(place: Place, *more: str) -> list[str]:
    return ["install", "--from=wheel", f"--prefix={place.fsx}", f"--cuda-home={place.folder / 'cuda'}", *more]


def test_a_wheel_brings_the_library_and_says_what_it_does_not(place: Place, wheel: str) -> None:
    checksum = hashlib.sha256(Path(wheel).read_bytes()).hexdigest()
    done = place.run(*from_wheel(place, f"--nccl-source={wheel}", f"--nccl-sha256={checksum}"))
    assert done.exit_code == 0, done
    assert "neither the network plugin nor nccl-tests are in it" in done.stderr
    assert "jobs on several nodes will not use EFA" in done.stderr
    manifest = json.loads((place.root / "current/manifest.json").read_text())
    assert (manifest["ofi"], manifest["tests"], manifest["architectures"]) == ("", "", [])
    assert manifest["sources"]["nccl"]["sha256"] == checksum
    assert library_version(str(place.root / "lib/libnccl.so")) == "2.28.7"
    assert "2.28.7-1-wheel" in place.current


def test_plugin_and_tests_are_built_for_a_wheel_where_they_are_asked_for(place: Place, wheel: str) -> None:
    more = [f"--{part}-source={place.sources / part}" for part in ("ofi", "tests")]
    homes = [f"--libfabric-home={place.folder / 'efa'}", "--gencode=90"]
    chosen = ["--ofi=v1.17.2-aws", "--tests=v2.18.3"]
    done = place.run(*from_wheel(place, f"--nccl-source={wheel}", *more, *homes, *chosen))
    assert done.exit_code == 0, done
    assert "may not compile against a wheel" in done.stderr
    assert place.steps == ["ofi", "tests"]
    assert (place.root / "bin/all_reduce_perf").exists()
    assert (place.root / "lib/libnccl-net-ofi.so").exists()


def test_a_folder_is_no_wheel(place: Place) -> None:
    done = place.run(*from_wheel(place, f"--nccl-source={place.sources / 'nccl'}"))
    assert isinstance(done.exception, InvalidVersion)


@pytest.mark.parametrize(
    ("number", "text"), [pytest.param(22807, "2.28.7", id="now"), pytest.param(2708, "2.7.8", id="before-2.9")]
)
def test_a_librarys_number_is_read_in_both_forms(number: int, text: str) -> None:
    assert version_text(number) == text


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param(NCCL_C.replace("return 0", "return 3").replace("NUMBER", "0"), "error 3", id="error"),
        pytest.param("int other;\n", "ncclGetVersion", id="no-such-function"),
        pytest.param(
            NCCL_C.replace("return 0", "__builtin_trap()").replace("NUMBER", "0"), "ended with -4", id="crash"
        ),
    ],
)
def test_a_library_that_gives_no_version_is_told_as_one(tmp_path: Path, body: str, said: str) -> None:
    (tmp_path / "a.c").write_text(body)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "a.so", tmp_path / "a.c"], check=True)
    with pytest.raises(LibraryUnusable, match=said):
        library_version(str(tmp_path / "a.so"))


def test_a_library_that_hangs_is_ended(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text("int ncclGetVersion(int *v) { for (;;) *v = 1; }\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "a.so", tmp_path / "a.c"], check=True)
    with pytest.raises(LibraryUnusable, match="did not load within"):
        library_version(str(tmp_path / "a.so"), 1.0)


@pytest.mark.slow
@pytest.mark.parametrize(("cuda", "package"), [("12.9", "cu12"), ("13.0", "cu13")])
def test_nvidias_own_wheel_is_downloaded_and_loads(place: Place, cuda: str, package: str) -> None:
    nvcc = place.folder / "cuda/bin/nvcc"
    nvcc.write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release {cuda}, V{cuda}.1'\n")
    done = place.run(*from_wheel(place, "--nccl=v2.28.7-1"))
    assert done.exit_code == 0, done
    assert library_version(str(place.root / "current/lib/libnccl.so.2")) == "2.28.7"
    source = json.loads((place.root / "current/manifest.json").read_text())["sources"]["nccl"]
    assert source["from"] == f"nvidia-nccl-{package}"
    assert source["file"].endswith(".whl")
    assert (place.root / "current/include/nccl.h").exists()
