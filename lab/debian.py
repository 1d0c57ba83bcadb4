"""Root folders of Debian releases, from the mirror that this machine takes its packages from."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from .errors import LabError

PACKAGES = ("bubblewrap", "fuse3", "iproute2", "libslurm-dev", "munge", "procps", "python3", "slurm-wlm", "squashfuse")
"""A plain Debian with Slurm and bubblewrap, and what a node of the lab runs besides."""

_LIMIT_S = 600


def mirror() -> str:
    """Give the address of this machine's mirror, as apt(8) knows it."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = [line for line in done.stdout.splitlines() if not line.rstrip("/").endswith("-security")]
    if not found:
        raise LabError(f"apt knows no mirror of Debian: {done.stderr.strip() or 'run apt-get update'}")
    return found[0]


def make_root(suite: str, folder: Path) -> Path:
    """Make the root folder of a release, e.g. ``trixie``; takes minutes.

    Raises:
        LabError: there is no debootstrap, or it failed, or did not end.
    """
    if not shutil.which("debootstrap"):
        raise LabError("debootstrap is missing: apt-get install debootstrap")
    what = ["--variant=minbase", f"--include={','.join(PACKAGES)}", suite, str(folder), mirror()]
    # A mirror that does not answer would be waited for without end. timeout(1) ends what debootstrap has started, too.
    command = ["timeout", "--kill-after=5", str(_LIMIT_S), "debootstrap", *what]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"debootstrap {suite} failed: {(done.stderr or done.stdout)[-500:]}")
    return folder


def slurm_include(root: Path, folder: Path) -> Path:
    """Give a folder with a release's Slurm headers alone: its C library is not to be compiled with."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "slurm").symlink_to(root / "usr/include/slurm")
    return folder
