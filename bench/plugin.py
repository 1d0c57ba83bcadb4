"""The SPANK plugin's own time in submission and task start, by a host that plays Slurm's calls."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from lab.cluster import CHECKOUT
from lab.images import make_image
from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.config.origin import config_key
from slurm_fsx_tools.containers.index import update_index

from .calls import STRACE, count_below
from .figures import Figure

if TYPE_CHECKING:
    from pathlib import Path

PLUGIN = CHECKOUT / ".venv/lib/slurm/spank_slurm_fsx.so"
ROUNDS = 201
IMAGES = 10_000
OPERATIONS = 20
JOB = 1
"""The job that the host plays."""


def measure(folder: Path) -> list[Figure]:
    """Measure with 10,000 images and a fresh index, and with an environment of 20 operations."""
    folder.mkdir()
    host = folder / "stub_host"
    subprocess.run(["make", "--silent", "-C", CHECKOUT / "spank", f"BUILD={folder}", host], check=True)
    name = fill_catalogue(folder)
    write_environment(folder)
    submit = play(host, "post_opt", folder, name)
    task = play(host, "task_init", folder)
    return [
        Figure.absolute(f"submit-side resolution, {IMAGES} images", submit / 1000, "ms", 5),
        Figure.absolute(f"SPANK task_init, {OPERATIONS} operations", task / 1000, "ms", 0.2),
        Figure.absolute("calls under /fsx in a task's start", count_calls(host, folder), "", 0),
    ]


def fill_catalogue(folder: Path) -> str:
    """Make a catalogue of many images with its index; give a name to look up."""
    containers = folder / "fsx/containers"
    image = make_image(containers / "nvcr.io_nvidia_tool0-24.01-py3.sqsh")
    for number in range(1, IMAGES):
        (containers / f"nvcr.io_nvidia_tool{number // 5}-24.{number % 5 + 2:02}-py3.sqsh").hardlink_to(image)
    config_path = folder / "config.yaml"
    config_path.write_text(f"fsx: {{root: {folder}/fsx}}\n")
    update_index(Config({"fsx.root": f"{folder}/fsx"}), must_ask=False)
    values = {
        "config": config_path,
        "config_key": config_key(str(config_path)),
        "fsx_root": f"{folder}/fsx",
        "containers": containers,
        "index": f"{containers}/.slurm-fsx/index",
        "unknown_name": "pass",
        "policy": "default",
    }
    text = "".join(f"{key}={value}\n" for key, value in values.items())
    (folder / "plugin.conf").write_text(f"# slurm-fsx plugin 1\n{text}")
    return f"tool{IMAGES // 7}"


def write_environment(folder: Path) -> None:
    """Write a job's environment file as a prolog would."""
    lines = ["# slurm-fsx env 1", *(f"default BENCH_{number}=value" for number in range(OPERATIONS - 2))]
    lines += [f"library prepend LD_LIBRARY_PATH={folder}/fsx/nccl/lib:/usr/local/lib", "set BENCH_LAST=1"]
    (folder / "jobs").mkdir()
    (folder / f"jobs/{JOB}.env").write_text("\n".join(lines) + "\n")


def play(host: Path, call: str, folder: Path, name: str = "") -> float:
    """Play one of Slurm's calls many times; give the median in microseconds."""
    played = subprocess.run(
        command(host, call, folder, ROUNDS),
        env={**os.environ, "_SLURM_SPANK_OPTION_pyxis_container_name": name},
        check=True,
        capture_output=True,
        text=True,
    )
    if played.stderr:
        raise SystemExit(f"{call}: the plugin complains: {played.stderr}")
    return float(played.stdout)


def command(host: Path, call: str, folder: Path, rounds: int) -> list[str]:
    """Give the command line of the host that plays Slurm."""
    return [str(host), str(PLUGIN), call, str(rounds), f"run_dir={folder}", f"config={folder}/config.yaml"]


def count_calls(host: Path, folder: Path) -> int:
    """Count the system calls of a task's start that name a path below the shared file system, here a folder of ours."""
    traced = subprocess.run(
        [*STRACE, *command(host, "task_init", folder, 1)],
        check=True,
        capture_output=True,
        text=True,
    )
    return count_below(traced.stderr, f"{folder}/fsx")
