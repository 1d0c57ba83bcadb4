"""An NCCL installation on the shared file system: as another tool leaves it, or in our own layout."""

from __future__ import annotations

import shutil
from pathlib import Path

from slurm_fsx_tools.nccl.manifest import Manifest

VERSION = "2.28.7"

_SETUP_SCRIPT = """\
# made by somebody else
export SITE_NCCL_EXTRA=yes
export LD_LIBRARY_PATH=/fsx/nccl/lib:$LD_LIBRARY_PATH
"""


def install_nccl(fsx: Path) -> None:
    """Put an installation into ``nccl`` of the folder that the nodes have at /fsx."""
    (fsx / "nccl/lib").mkdir(parents=True, exist_ok=True)
    (fsx / "nccl/setup-nccl-env.sh").write_text(_SETUP_SCRIPT)
    (fsx / "nccl/.nccl_version").write_text(f"{VERSION}\n")


def install_version(fsx: Path, version: str, ofi: str = "1.17.2-aws") -> Path:
    """Put a version of our own layout beside the others; give its folder."""
    folder = fsx / "nccl/versions" / version
    (folder / "lib").mkdir(parents=True)
    manifest = Manifest(
        id=version,
        nccl=version.partition("_")[0],
        ofi=ofi,
        ofi_folder="",
        tests="",
        cuda="13.0",
        libfabric="2.1.0",
        mpi="",
        architectures=[],
        machine="x86_64",
        sources={},
        installed_s=0.0,
    )
    (folder / "manifest.json").write_bytes(manifest.format())
    return folder


def use_version(fsx: Path, version: str) -> None:
    """Let jobs that start from now on get a version."""
    new = fsx / "nccl/.current"
    new.symlink_to(f"versions/{version}")
    new.rename(fsx / "nccl/current")


def remove_versions(fsx: Path) -> None:
    """Leave the installation of the other tool alone."""
    (fsx / "nccl/current").unlink(missing_ok=True)
    for name in ("versions", ".uses"):
        shutil.rmtree(fsx / "nccl" / name, ignore_errors=True)
