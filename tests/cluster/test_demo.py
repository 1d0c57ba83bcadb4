"""`make demo` holds what it shows."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest


@pytest.mark.usefixtures("installation")
def test_the_demo_shows_the_main_job_and_leaves_nothing(checkout: Path) -> None:
    def left() -> set[Path]:
        return set(Path(tempfile.gettempdir()).glob("slurm-fsx-demo-*"))

    before = left()
    done = subprocess.run(
        [sys.executable, "-m", "lab.demo"], cwd=checkout, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for shown in (
        "/fsx/containers/nvcr.io_nvidia_pytorch-24.03-py3.sqsh",
        "COMPLETED, on n1, n2",
        "NCCL_DEBUG",
        "/fsx/nccl/lib:/usr/local/lib",
        "n1:9100  up",
        "n2:9100  up",
        "n1:9400  up",
        'slurm_fsx:job_gpu_utilization{node="n1", gpu="0"}',
        "87%",
        "nvcr.io_nvidia_pytorch-24.01-py3 (2 tasks)",
    ):
        assert shown in done.stdout
    assert "still there" not in done.stdout
    assert left() == before


@pytest.mark.usefixtures("installation")
def test_a_demo_whose_job_sees_something_else_says_so_and_fails(checkout: Path) -> None:
    spoilt = "import sys; from lab import demo; demo.EXPECTED['NCCL_DEBUG'] = 'WARN'; sys.exit(demo.main())"
    done = subprocess.run(
        [sys.executable, "-c", spoilt], cwd=checkout, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "the task saw NCCL_DEBUG=INFO, not WARN" in done.stdout
    assert "All of it held" not in done.stdout
