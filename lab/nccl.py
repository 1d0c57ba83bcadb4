"""An NCCL installation on the shared file system, as another tool leaves it."""

from __future__ import annotations

from pathlib import Path

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
