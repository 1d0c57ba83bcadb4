"""Installs of small source trees, by the command, through the same code as of NCCL's own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from slurm_fsx_tools.errors import InstallFailed, InvalidVersion

ID = "2.28.7-1_ofi-1.17.2-aws_cuda-13.0_x86_64".replace("x86_64", os.uname().machine)


def test_a_version_is_built_from_folders_and_made_current(place) -> None:
    done = place.install()
    assert done.exit_code == 0, done
    assert place.current == f"versions/{ID}"
    assert place.steps == ["nccl", "ofi", "tests", "install"]
    folder = place.root / "current"
    assert (folder / "lib/libnccl-net.so").exists()
    assert subprocess.run([folder / "bin/all_reduce_perf"], capture_output=True, text=True).stdout == "MPI=0\n"
    assert f"prefix={place.root}/versions/{ID}" in (folder / "lib/pkgconfig/nccl.pc").read_text()
    assert (folder / "include/how").read_text().split() == [
        "-gencode=arch=compute_90,code=sm_90",
        str(place.folder / "cuda"),
    ]


def test_the_manifest_tells_what_was_built_from_what(place) -> None:
    assert place.install().exit_code == 0
    manifest = json.loads((place.root / "current/manifest.json").read_text())
    assert manifest["id"] == ID
    assert (manifest["nccl"], manifest["ofi"], manifest["cuda"]) == ("2.28.7-1", "1.17.2-aws", "13.0")
    assert manifest["libfabric"] == "2.1"
    assert manifest["architectures"] == ["sm_90"]
    assert manifest["ofi_folder"] == f"{place.root}/versions/{ID}/lib"
    assert manifest["sources"]["nccl"]["from"] == str(place.sources / "nccl")
    assert len(manifest["sources"]["nccl"]["sha256"]) == 64


def test_everybody_may_read_a_version_and_nobody_else_write(place) -> None:
    old = os.umask(0o077)
    try:
        assert place.install().exit_code == 0
    finally:
        os.umask(old)
    for path in [place.root, *place.root.glob("versions/**/*"), *place.root.glob("*.sh")]:
        mode = path.stat().st_mode
        assert mode & 0o044 == 0o044, path
        assert not mode & 0o022, path
    assert (place.root / ".staging").stat().st_mode & 0o777 == 0o700


def test_documented_files_stand_in_the_installations_folder(place) -> None:
    assert place.install().exit_code == 0
    assert (place.root / ".nccl_version").read_text() == "v2.28.7-1\n"
    assert (place.root / "lib/libnccl.so.2").exists()
    assert (place.root / "bin/all_reduce_perf").exists()
    assert "current" in (place.root / "setup-nccl-env.sh").read_text()


def test_each_step_has_a_log(place) -> None:
    assert place.install().exit_code == 0
    logs = place.fsx / f"logs/nccl/{ID}"
    assert sorted(path.name for path in logs.iterdir()) == [
        f"{step}.log" for step in ("fetch", "install", "nccl", "ofi", "tests")
    ]
    assert "libnccl.so.2.28.7" in (logs / "nccl.log").read_text()


def test_nothing_is_left_of_a_build(place) -> None:
    assert place.install().exit_code == 0
    left = [name for name in os.listdir(place.root / ".staging") if not name.startswith(("install", "switch"))]
    assert not left


def test_what_is_there_is_not_built_again(place) -> None:
    assert place.install().exit_code == 0
    again = place.install()
    assert again.exit_code == 0
    assert "there already" in again.stderr
    assert place.steps == ["nccl", "ofi", "tests", "install"]


def test_another_build_of_the_same_versions_gets_a_name_of_its_own(place) -> None:
    assert place.install().exit_code == 0
    inode = (place.root / f"versions/{ID}").stat().st_ino
    assert place.install("--anew").exit_code == 0
    assert place.current == f"versions/{ID}_2"
    assert place.install("--gencode=sm_80").exit_code == 0
    assert place.current == f"versions/{ID}_3"
    assert (place.root / f"versions/{ID}").stat().st_ino == inode


def test_sources_come_from_repositories_by_tag(place) -> None:
    nccl = place.repository("nccl", "v2.28.7-1")
    ofi = place.repository("ofi", "v1.17.2")  # as releases are called that do not end in -aws any more
    done = place.install(f"--nccl-source=file://{nccl}", f"--ofi-source={ofi}")
    assert done.exit_code == 0, done
    sources = json.loads((place.root / "current/manifest.json").read_text())["sources"]
    assert (sources["nccl"]["tag"], sources["ofi"]["tag"]) == ("v2.28.7-1", "v1.17.2")
    head = subprocess.run(["git", "-C", nccl, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    assert sources["nccl"]["commit"] == head.strip()


def test_a_tag_that_is_not_there_is_found_before_anything_is_built(place) -> None:
    nccl = place.repository("nccl", "v2.28.6-1")
    done = place.install(f"--nccl-source={nccl}")
    assert isinstance(done.exception, InstallFailed)
    assert "has no tag v2.28.7-1" in done.stderr
    assert "v2.28.6-1" in done.stderr
    assert not place.root.exists()


def test_sources_come_from_tarballs_with_a_checksum(place) -> None:
    nccl = place.tarball("nccl")
    sum_ = subprocess.run(["sha256sum", nccl], capture_output=True, text=True, check=True).stdout.split()[0]
    done = place.install(f"--nccl-source={nccl}", f"--nccl-sha256={sum_}", f"--ofi-source={place.tarball('ofi')}")
    assert done.exit_code == 0, done
    assert json.loads((place.root / "current/manifest.json").read_text())["sources"]["nccl"]["sha256"] == sum_


def test_a_tarball_with_another_checksum_is_not_unpacked(place) -> None:
    done = place.install(f"--nccl-source={place.tarball('nccl')}", f"--nccl-sha256={'0' * 64}")
    assert "not " + "0" * 64 in str(done.exception)
    assert place.steps == []
    assert not (place.root / "current").exists()


def test_a_failed_step_shows_its_last_lines_and_goes_on_there(place) -> None:
    (place.control / "fail-ofi").touch()
    done = place.install()
    assert isinstance(done.exception, InstallFailed)
    assert "error: broken in ofi" in done.stderr
    assert f"logs/nccl/{ID}/ofi.log" in done.stderr
    assert not (place.root / "current").exists()
    (place.control / "fail-ofi").unlink()
    assert place.install().exit_code == 0
    assert place.steps == ["nccl", "ofi", "ofi", "tests", "install"]


def test_a_changed_request_begins_anew(place) -> None:
    (place.control / "fail-ofi").touch()
    place.install()
    (place.control / "fail-ofi").unlink()
    assert place.install("--gencode=sm_80").exit_code == 0
    assert place.steps == ["nccl", "ofi", "nccl", "ofi", "tests", "install"]


def test_a_library_of_another_version_is_not_installed(place) -> None:
    done = place.install("--nccl=v2.27.3-1")
    assert "the library says that it is 2.28.7, not 2.27.3" in str(done.exception)
    assert not (place.root / "versions").joinpath(ID).exists()


def test_a_dry_run_tells_the_plan_and_does_nothing(place) -> None:
    done = place.install("--dry-run")
    assert done.exit_code == 0
    assert f"version {ID} into {place.root}/versions/{ID}" in done.stdout
    assert "for sm_90" in done.stdout
    assert not place.root.exists()


def test_all_that_is_missing_is_told_at_once(place) -> None:
    done = place.install(
        "--cuda-home=/nowhere", "--libfabric-home=/nowhere", f"--nccl-source={place.repository('nccl')}"
    )
    assert done.exit_code == 1
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")] != []
    for subject in ("CUDA", "libfabric", "NCCL"):
        assert f"error: {subject}: " in done.stderr
    assert not place.root.exists()


def test_an_architecture_that_this_cuda_does_not_know_is_told(place) -> None:
    done = place.install("--gencode=sm_70", "--dry-run")
    assert done.exit_code == 1
    assert "CUDA 13.0 does not compile for sm_70" in done.stderr


@pytest.mark.parametrize(
    "text", ["v2.28; touch x", "$(touch x)", "`id`", "../../etc", "-u", "a b", "v2|x", "v2\nx", ""]
)
def test_a_version_with_metacharacters_is_refused(place, text: str) -> None:
    done = place.install(f"--nccl={text}")
    assert isinstance(done.exception, InvalidVersion)
    assert done.exit_code == 2
    assert repr(text) in str(done.exception)
    assert not place.root.exists()


@pytest.mark.parametrize("source", ["ext::sh -c id", "--upload-pack=id", "https://a.example/x y", "ftp://a.example/x"])
def test_a_source_that_would_run_something_is_refused(place, source: str) -> None:
    assert isinstance(place.install(f"--nccl-source={source}").exception, InvalidVersion)


def test_the_efa_installers_plugin_is_taken_instead_of_building_one(place) -> None:
    folder = place.folder / "installer/lib/x86_64-linux-gnu"
    folder.mkdir(parents=True)
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", folder / "libnccl-net-ofi.so", place.sources / "ofi/plugin.c"], check=True
    )
    found = f"--plugin-folder={folder.parent}"
    offered = place.install(found, "--dry-run")
    assert "--ofi efa takes it instead of building one" in offered.stderr
    assert place.install(found, "--ofi=efa").exit_code == 0
    manifest = json.loads((place.root / "current/manifest.json").read_text())
    assert (manifest["ofi"], manifest["ofi_folder"]) == ("1.17.2-aws", str(folder))
    assert "ofi" not in place.steps


def test_mpi_is_used_where_it_is(place) -> None:
    home = place.folder / "mpi/bin"
    home.mkdir(parents=True)
    (home / "mpirun").write_text("#!/bin/sh\necho 'mpirun (Open MPI) 4.1.7'\n")
    (home / "mpirun").chmod(0o755)
    assert place.install(f"--mpi-home={home.parent}").exit_code == 0
    assert json.loads((place.root / "current/manifest.json").read_text())["mpi"] == "4.1.7"
    assert "MPI=1" in (place.root / "bin/all_reduce_perf").read_text()


def test_what_somebody_else_has_put_there_is_kept(place) -> None:
    place.root.mkdir()
    (place.root / "setup-nccl-env.sh").write_text("export A=1\n")
    (place.root / "lib").mkdir()
    done = place.install()
    assert done.exit_code == 0
    assert (place.root / "setup-nccl-env.sh.before-slurm-fsx").read_text() == "export A=1\n"
    assert "is from an installation before" in done.stderr


@pytest.mark.parametrize("name", ["nccl", "nccl/versions", "nccl/.staging", "nccl/.uses"])
def test_a_planted_link_is_not_followed(place, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (place.fsx / name).parent.mkdir(exist_ok=True)
    (place.fsx / name).symlink_to(elsewhere)
    done = place.install()
    assert done.exit_code == 1
    assert not list(elsewhere.iterdir())


def test_a_planted_log_is_not_written_to(place, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("kept")
    logs = place.fsx / f"logs/nccl/{ID}"
    logs.mkdir(parents=True)
    (logs / "fetch.log").symlink_to(victim)
    assert place.install().exit_code == 1
    assert victim.read_text() == "kept"


def test_what_was_killed_before_the_switch_is_switched_to_by_the_same_command(place) -> None:
    assert place.install("--no-activate").exit_code == 0
    assert not (place.root / "current").is_symlink()
    assert place.install().exit_code == 0
    assert place.current == f"versions/{ID}"
    assert place.steps.count("nccl") == 1
