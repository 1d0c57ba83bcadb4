"""What is in the archive, and on which machines it runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import Unpacked


def pythons() -> Iterator[Path]:
    """Find one interpreter of each minor version, those behind pyenv's shims included."""
    for minor in range(9, 14):
        name = f"python3.{minor}"
        found = [Path(path) for path in [shutil.which(name)] if path]
        behind = [python for path in found for python in path.parent.parent.glob(f"versions/3.{minor}.*/bin/{name}")]
        yield from [path.resolve() for path in [*behind, *found] if b"ELF" in path.read_bytes()[:4]][:1]


# The oldest and the newest say of those between them what there is to say.
FOUND = list(pythons())
PYTHONS = [
    pytest.param(python, id=python.name, marks=[] if python in (FOUND[0], FOUND[-1]) else [pytest.mark.slow])
    for python in FOUND
]


def test_it_holds_no_python_code_that_one_python_alone_could_load(archive: Path) -> None:
    with tarfile.open(archive) as members:
        names = members.getnames()
        assert all(member.isfile() and member.uid == 0 and member.mode in (0o644, 0o755) for member in members)
    compiled = [name for name in names if name.endswith((".so", ".pyc")) and "/lib/slurm/" not in name]
    assert [name.rpartition("/")[2] for name in compiled] == ["_psutil_linux.abi3.so"]
    assert [name for name in names if name.endswith("/yaml/__init__.py")]


def test_nothing_in_it_names_where_it_was_made(first: Unpacked, checkout: Path) -> None:
    made = [str(checkout).encode(), b"/slurm-fsx-dist-"]
    files = [path for path in first.folder.rglob("*") if path.is_file()]
    assert len(files) > 300
    assert not [path for path in files if any(each in path.read_bytes() for each in made)]


def test_the_same_content_makes_the_same_archive(first: Unpacked, archive: Path, tmp_path: Path) -> None:
    other = first.copy(tmp_path / "other")
    for path in other.folder.rglob("*"):
        os.utime(path, (0, 1))
        path.chmod(path.stat().st_mode & 0o700)
    assert other.pack(tmp_path).read_bytes() == archive.read_bytes()


@pytest.mark.slow
def test_the_same_checkout_makes_the_same_archive(archive: Path, tmp_path: Path, checkout: Path) -> None:
    subprocess.run([sys.executable, "-m", "archive", tmp_path], cwd=checkout, check=True, capture_output=True)
    assert (tmp_path / archive.name).read_bytes() == archive.read_bytes()


@pytest.mark.parametrize("python", PYTHONS)
def test_it_runs_on_every_python(first: Unpacked, prefix: Path, python: Path) -> None:
    done = first.install(prefix, f"--python={python}")
    assert done.returncode == 0, done.stderr
    assert (prefix / "bin/python3").resolve() == python
    shown = subprocess.run([prefix / "bin/slurm-fsx", "config", "show"], capture_output=True, text=True, check=True)
    assert "fsx:" in shown.stdout


def test_its_version_names_release_and_build(first: Unpacked, installed: Path, running: Callable[[Path], str]) -> None:
    match = re.fullmatch(r"slurm-fsx (\S+) \(build ([0-9a-f]{12})\)", running(installed))
    assert match
    assert f"{match[1]}-{match[2]}" == first.id


def test_another_prefix_stands_in_everything_that_names_it(installed: Path) -> None:
    assert f"home={installed}\n" in (installed / "share/slurm-fsx/prolog.d/50-slurm-fsx").read_text()
    assert f"ExecStart={installed}/bin" in (installed / "share/slurm-fsx/systemd/slurm-fsx-cleanup.service").read_text()
    assert (installed / "bin/slurm-fsx").read_text().startswith(f"#!{installed}/bin/python3 -I\n")


def test_bytecode_is_believed_without_a_look_at_the_source(installed: Path) -> None:
    found = list(installed.glob("lib/python3/site-packages/slurm_fsx_tools/node/__pycache__/prolog.*.pyc"))
    assert len(found) == 1
    assert found[0].read_bytes()[4:8] == b"\1\0\0\0"  # hash-based, unchecked; Source: PEP 552


def test_a_machine_of_another_kind_is_told(first: Unpacked, prefix: Path, tmp_path: Path) -> None:
    other = first.copy(tmp_path / "other")
    (other.folder / "share/slurm-fsx/archive/machine").write_text("vax\n")
    done = other.install(prefix)
    assert done.returncode == 1
    assert "this archive is for vax" in done.stderr
    assert not prefix.is_symlink()


def test_a_python_that_is_too_old_is_told(first: Unpacked, prefix: Path, tmp_path: Path) -> None:
    old = tmp_path / "python3.8"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = first.install(prefix, f"--python={old}")
    assert done.returncode == 1
    assert "no Python of 3.9 or newer" in done.stderr
    assert not prefix.is_symlink()


def test_a_prefix_below_a_folder_that_is_not_there_is_told_by_that_folder(first: Unpacked, tmp_path: Path) -> None:
    done = first.install(tmp_path / "none/slurm-fsx")
    assert done.returncode == 1
    assert f"there is no folder {tmp_path}/none" in done.stderr
    assert f"mkdir -p {tmp_path}/none" in done.stderr


def test_a_slurm_that_it_has_no_plugin_for_is_told(
    first: Unpacked, prefix: Path, tmp_path: Path, running: Callable[[Path], str]
) -> None:
    other = first.copy(tmp_path / "other")
    plugins = other.folder / "lib/slurm"
    next(plugins.iterdir()).rename(plugins / "19.05")
    other.seal()
    done = other.install(prefix)
    assert done.returncode == 1
    assert "no SPANK plugin for Slurm" in done.stderr
    assert "it has 19.05" in done.stderr
    assert not prefix.is_symlink()
    assert other.install(prefix, "--without-plugin").returncode == 0
    assert other.id.split("-")[1] in running(prefix)
    assert not (prefix / "lib/slurm/spank_slurm_fsx.so").exists()


def test_the_plugin_is_the_one_for_the_slurm_that_is_here(installed: Path) -> None:
    # Unlike sinfo of 22.05, it says so without a slurm.conf.
    release = subprocess.run(["slurmd", "-V"], capture_output=True, text=True, check=True).stdout.split()[-1]
    chosen = installed / "lib/slurm/spank_slurm_fsx.so"
    assert chosen.resolve().parent.name == ".".join(release.split(".")[:2])


def test_a_plugin_that_needs_a_newer_system_is_told(first: Unpacked, prefix: Path, tmp_path: Path) -> None:
    other = first.copy(tmp_path / "other")
    plugin = next((other.folder / "lib/slurm").glob("*/*.so"))
    plugin.write_bytes(plugin.read_bytes().replace(b"GLIBC_2.", b"GLIBC_9.", 1))
    other.seal()
    done = other.install(prefix)
    assert done.returncode == 1
    assert "the SPANK plugin cannot be loaded here" in done.stderr


def test_a_site_package_is_installed_as_the_page_says(
    installed: Path, tmp_path: Path, checkout: Path, run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    package = tmp_path / "site-policy"
    package.mkdir()
    hook = (
        "from slurm_fsx_tools import hookimpl\n\n\n@hookimpl\ndef slurm_fsx_job_env(env):\n    env.default('A', '1')\n"
    )
    (package / "site_policy.py").write_text(hook)
    entry = "[options.entry_points]\nslurm_fsx =\n    site_policy = site_policy\n"
    (package / "setup.cfg").write_text(f"[metadata]\nname = site-policy\n[options]\npy_modules = site_policy\n{entry}")
    (package / "setup.py").write_text("from setuptools import setup\n\nsetup()\n")
    page = (checkout / "docs/plugins.md").read_text()
    (line,) = [line for line in page.splitlines() if line.startswith("# python3 -m pip install ")]
    words = line.replace("/opt/slurm-fsx", str(installed)).split()[2:]
    # Setuptools from here: the lab's machines need reach nobody.
    command = [sys.executable, *words[:-1], "--no-build-isolation", "--no-index", "--quiet", words[-1]]
    subprocess.run(command, cwd=tmp_path, check=True)
    listed = run(installed, "plugins", "list")
    assert listed.returncode == 0, listed.stderr
    assert "slurm_fsx_job_env            nccl, site_policy" in listed.stdout
