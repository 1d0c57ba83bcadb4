"""The dashboards as the files that Grafana reads.

Write them anew with: python -m slurm_fsx_tools.monitoring.dashboards.files share/grafana
"""

from __future__ import annotations

import json
import os
import sys

from ...files import write_atomically
from .cluster import CLUSTER
from .gpu import GPU
from .job import JOB
from .model import Dashboard
from .node import NODE

DASHBOARDS: tuple[Dashboard, ...] = (CLUSTER, NODE, JOB, GPU)


def format_file(dashboard: Dashboard) -> str:
    """Give a dashboard's file."""
    return json.dumps(dashboard.as_json(), indent=1, ensure_ascii=False) + "\n"


def write_files(folder: str) -> None:
    """Write all dashboards into a folder.

    Raises:
        OSError: it cannot be written to.
    """
    for dashboard in DASHBOARDS:
        write_atomically(os.path.join(folder, f"{dashboard.uid}.json"), format_file(dashboard).encode())


if __name__ == "__main__":
    write_files(sys.argv[1])
