"""``slurm-fsx containers stage``."""

from __future__ import annotations

import io
import json
import os
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import click
import pytest

from slurm_fsx_tools.cli.containers import containers
from slurm_fsx_tools.errors import ConfigError

IMAGE = b"hsqs" + bytes(24) + b"\4\0" + bytes(10) + b"\x60" + bytes(55)
FILE = "nvcr.io_nvidia_pytorch-24.03-py3.sqsh"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs_root: None) -> Path:
    (tmp_path / "fsx/containers").mkdir(parents=True)
    (tmp_path / "scratch").mkdir()
    (tmp_path / "fsx/containers" / FILE).write_bytes(IMAGE)
    configure(tmp_path, "{}")
    monkeypatch.setenv("SLURM_FSX_CONFIG", str(tmp_path / "config.yaml"))
    return tmp_path


def configure(folder: Path, more: str) -> None:
    (folder / "config.yaml").write_text(
        f"fsx: {{root: {folder}/fsx}}\nruntime_dir: {folder}/run\ncontainers: {more or '{}'}\n"
    )


def run(*arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            containers.main(["stage", *arguments], standalone_mode=False)
        except SystemExit as end:
            code = int(end.code or 0)
    return code, out.getvalue(), err.getvalue()


def test_without_a_folder_for_copies_it_says_what_to_set(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"containers\.stage"):
        run("pytorch")


def test_images_are_copied_listed_and_evicted(folder: Path) -> None:
    configure(folder, f"{{stage: {folder}/scratch}}")
    copy = f"{folder}/scratch/slurm-fsx-images/{FILE}"
    assert run("pytorch") == (0, f"{copy}\n", "")
    (entry,) = json.loads(run("--list", "--json")[1])
    assert (entry["file"], entry["size_bytes"]) == (FILE, len(IMAGE))
    assert FILE in run("--list")[1]
    assert run("--evict", "pytorch-24.03") == (0, f"removed {FILE}\n", "")
    assert not os.path.exists(copy)
    assert run("--list") == (0, "", "")


def test_an_unknown_name_does_not_keep_the_others_from_being_copied(folder: Path) -> None:
    configure(folder, f"{{stage: {folder}/scratch}}")
    code, out, err = run("unknown", "pytorch")
    assert code == 1
    assert FILE in out
    assert err.startswith("slurm-fsx: unknown: no image is called 'unknown'")


def test_a_command_without_a_name_says_how_it_is_used(folder: Path) -> None:
    configure(folder, f"{{stage: {folder}/scratch}}")
    with pytest.raises(click.UsageError, match="--list"):
        run()
