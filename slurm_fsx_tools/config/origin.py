"""What a configuration is made from: a YAML file, and the distributions that may offer plugins."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_PATH = "/etc/slurm-fsx/config.yaml"
PATH_VARIABLE = "SLURM_FSX_CONFIG"
"""Environment variable that names another configuration file."""


def config_path(environ: Mapping[str, str]) -> str:
    """Give the path of the YAML file that counts."""
    return environ.get(PATH_VARIABLE) or DEFAULT_PATH


def config_key(path: str) -> str:
    """Describe a file's present state as ``DEV:INODE:SIZE:MTIME_NS``, or ``absent``."""
    try:
        status = os.stat(path)
    except OSError:
        return "absent"
    return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"


def plugin_folders(plugins_dir: str) -> dict[str, int]:
    """Give the folders that plugins come from, with their modification times in ns: installed ones and single files.

    A folder that is not there has the time 0.
    """
    return {
        path: _modified_ns(path)
        for path in [*sys.path, plugins_dir]
        if path.endswith("-packages") or path == plugins_dir
    }


def _modified_ns(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
