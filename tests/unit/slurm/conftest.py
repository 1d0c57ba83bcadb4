"""What real Slurm clusters answered, and folders of commands that answer so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

RELEASES = ("22.05", "24.11", "26.05")


@pytest.fixture
def data(checkout: Path) -> Path:
    """Answers recorded from real clusters, a folder for each release.

    Each had four nodes with two GPUs: n1 and n2 busy, n3 drained, n4 being powered down; ``states.txt`` is what sinfo
    showed of them then.
    """
    return checkout / "tests/data/slurm"


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    """Puts shell scripts where Slurm's commands are looked for."""

    def put(scripts: dict[str, str]) -> None:
        for name, script in scripts.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / name).chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return put


@pytest.fixture
def recorded(commands, data: Path) -> Callable[[str], None]:
    """Has Slurm's commands answer as a release did."""

    def answer(release: str) -> None:
        folder = data / release
        unknown = "echo \"scontrol: unrecognized option '--json'\" >&2; echo try --help >&2; exit 1"
        as_json = unknown if release == "22.05" else f"cat {folder}/nodes.json"
        text = f"case $* in *partitions*) cat {folder}/partitions.txt;; *) cat {folder}/nodes.txt;; esac"
        commands(
            {
                "scontrol": f"case $* in *--json*) {as_json};; *) {text};; esac",
                "sinfo": f"cat {folder}/nodes.json" if release == "22.05" else "exit 9",
                "squeue": f"cat {folder}/jobs.json",
            }
        )

    return answer
