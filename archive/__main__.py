"""``make dist``: one archive with all that a node needs, for every Python from 3.9 on, and a wheel.

``python -m archive FOLDER [SLURM_INCLUDE ...]`` writes them into FOLDER. There is one SPANK plugin for each Slurm whose
headers are named, or one for the Slurm of this machine. The Python packages are chosen for 3.9, without what is
compiled for one Python alone: PyYAML works without that, and psutil is compiled for all (PEP 425's ``abi3``).
"""

from __future__ import annotations

import configparser
import functools
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from slurm_fsx_tools.provision.archives import MANIFEST, PACKAGES, PLUGIN, files_of, sum_file, write_manifest
from slurm_fsx_tools.version import BUILD_FILE, VERSION

CHECKOUT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = "3.9"
_SLURM_VERSION = re.compile(r"#define\s+SLURM_VERSION_NUMBER\s+0x([0-9a-f]+)")
_USUAL_INCLUDES = ("/opt/slurm/include", "/usr/local/include", "/usr/include")
_IN_FOLDERS = ("prolog.d", "epilog.d", "task_prolog.d", "scripts")


def main(folder: Path, includes: list[str]) -> None:
    """Build wheel and archive, and say where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    machine = os.uname().machine
    wheel = build_wheel(folder)
    name = f"slurm-fsx-{VERSION}-linux-{machine}"
    with tempfile.TemporaryDirectory(prefix="slurm-fsx-dist-") as scratch:
        root = Path(scratch) / name
        install_packages(root / PACKAGES, wheel, machine)
        releases = [build_plugin(root, include, Path(scratch)) for include in includes or usual_includes()]
        copy_files(root, machine)
        build = write_build_id(root)
        write_manifest(str(root))
        archive = pack(root, folder / f"{name}.tar.gz")
    digest = sum_file(str(archive))
    Path(f"{archive}.sha256").write_text(f"{digest}  {archive.name}\n")
    print(f"{wheel}\n{archive}\nversion {VERSION}-{build}, Slurm {' '.join(releases) or 'none'}, sha256 {digest}")


def build_wheel(folder: Path) -> Path:
    """Build the wheel, from nothing but what stands in the checkout."""
    for old in folder.glob("slurm_fsx_tools-*.whl"):
        old.unlink()
    with tempfile.TemporaryDirectory(prefix="slurm-fsx-wheel-") as scratch:
        for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(CHECKOUT / name, scratch)
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(CHECKOUT / "slurm_fsx_tools", Path(scratch) / "slurm_fsx_tools", ignore=ignore)
        pip("wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={folder}", scratch)
    return next(folder.glob("slurm_fsx_tools-*.whl"))


def install_packages(site: Path, wheel: Path, machine: str) -> None:
    """Put the packages there as they are for the oldest Python, without anything that is made for one Python alone."""
    options = configparser.ConfigParser()
    options.read(CHECKOUT / "setup.cfg")
    needed = options["options"]["install_requires"].split()
    target = f"--target={site}"
    chosen = ("--only-binary=:all:", f"--python-version={OLDEST_PYTHON}", f"--platform=manylinux2014_{machine}")
    pip("install", "--no-compile", "--no-warn-conflicts", target, *chosen, *needed)
    pip("install", "--no-compile", "--no-deps", "--upgrade", target, str(wheel))
    shutil.rmtree(site / "bin", ignore_errors=True)
    # Rich needs Pygments to colour source code, which nothing here shows: half of all files are for its languages.
    unwanted = [*site.glob("pygments/lexers/[!_]*.py"), *site.glob("pygments/lexers/_*_builtins.py")]
    for path in [
        *unwanted,
        *(path for path in site.rglob("*.so") if not path.name.endswith(".abi3.so")),
        *site.glob("*.dist-info/RECORD"),
        *site.glob("*.dist-info/direct_url.json"),
    ]:
        path.unlink()


def build_plugin(root: Path, include: str, scratch: Path) -> str:
    """Build the SPANK plugin for the Slurm with these headers; give its release, e.g. ``24.11``."""
    try:
        match = _SLURM_VERSION.search((Path(include) / "slurm/slurm_version.h").read_text())
    except FileNotFoundError:
        raise SystemExit(f"make dist: {include} has no slurm/slurm_version.h: name the folder above slurm/") from None
    if match is None:
        raise SystemExit(f"make dist: {include}/slurm/slurm_version.h does not say which Slurm it is of")
    number = int(match[1], 16)
    release = f"{number >> 16}.{number >> 8 & 0xFF:02}"
    # The compiler looks into /usr/include anyway, and must not be told to look there first.
    own = [] if include == "/usr/include" else [f"SLURM_INCLUDE={include}"]
    target = (root / PLUGIN).parent / release
    build = ["make", "--silent", "-C", CHECKOUT / "spank", "install", f"BUILD={scratch / release}", f"LIBDIR={target}"]
    subprocess.run([*build, *own], check=True, stdout=sys.stderr)
    # What is left does not say in which folder it was built.
    strip = ["strip", "--strip-debug", "--remove-section=.note.gnu.build-id", target / Path(PLUGIN).name]
    subprocess.run(strip, check=True)
    return release


def usual_includes() -> list[str]:
    """Find the headers of this machine's Slurm."""
    found = [include for include in _USUAL_INCLUDES if (Path(include) / "slurm/spank.h").exists()]
    if not found:
        raise SystemExit("make dist: no slurm/spank.h here; name the folder above: make dist SLURM_INCLUDES=FOLDER")
    return found[:1]


def copy_files(root: Path, machine: str) -> None:
    """Add scripts, programs and shared files, as `make install` places them, and the installer."""
    share = root / "share/slurm-fsx"
    for name in _IN_FOLDERS:
        shutil.copytree(CHECKOUT / name, share / name)
    shutil.copytree(CHECKOUT / "share", share, dirs_exist_ok=True)
    for name in ("bin", "libexec"):
        shutil.copytree(CHECKOUT / name, root / name)
    (share / "archive").mkdir()
    (share / "archive/machine").write_text(f"{machine}\n")
    shutil.copy(CHECKOUT / "archive/install.sh", root)
    shutil.copy(CHECKOUT / "LICENSE", root)


def write_build_id(root: Path) -> str:
    """Name the build by what is in it: whoever builds the same gets the same name."""
    digest = hashlib.sha256()
    for path in files_of(str(root)):
        digest.update(f"{sum_file(str(root / path))}  {path}\n".encode())
    build = digest.hexdigest()[:12]
    (root / PACKAGES / "slurm_fsx_tools" / BUILD_FILE).write_text(f"{build}\n")
    return build


def pack(root: Path, target: Path) -> Path:
    """Write the folder as a tar archive that belongs to root, with one time for all: it is the same each time."""
    staged = target.with_name(f".{target.name}")
    open_tar = functools.partial(tarfile.open, mode="w", format=tarfile.PAX_FORMAT)
    with staged.open("wb") as file, gzip.GzipFile("", "wb", 9, file, 0) as packed, open_tar(fileobj=packed) as archive:
        for path in [MANIFEST, *files_of(str(root))]:
            member = archive.gettarinfo(root / path, f"{root.name}/{path}")
            member.uid = member.gid = 0
            member.uname = member.gname = "root"
            member.mtime = 0
            member.mode = 0o755 if member.mode & 0o100 else 0o644
            with (root / path).open("rb") as content:
                archive.addfile(member, content)
    staged.replace(target)
    return target


def pip(*arguments: str) -> None:
    """Run pip; its talk is for stderr."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True, stdout=sys.stderr)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2:])
