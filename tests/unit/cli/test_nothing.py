"""What the commands say where there is nothing: a line on stderr, since stdout is for results."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from slurm_fsx_tools.cli.containers.progress import Bars
from slurm_fsx_tools.containers.imports.state import DIED, DONE, DOWNLOADING, FAILED, Progress, StateFile, read_states
from slurm_fsx_tools.containers.store import Store

DAY_S = 24 * 3600


@pytest.fixture
def empty(cluster):
    for file in cluster.folder.iterdir():
        file.unlink()
    return cluster


@pytest.mark.parametrize("command", ["list", "verify"])
def test_where_there_are_no_images_the_next_command_is_named(empty, command: str) -> None:
    done = empty.run(command)
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == f"slurm-fsx: no images in {empty.folder}: see slurm-fsx containers sync\n"


def test_where_nothing_was_imported_status_says_so(empty) -> None:
    done = empty.run("status")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "slurm-fsx: no imports to show: see slurm-fsx containers sync\n"
    assert json.loads(empty.run("status", "--json").stdout) == []


@pytest.mark.usefixtures("needs_root")
def test_where_nothing_is_left_cleanup_says_so(cluster, tmp_path: Path) -> None:
    state = tmp_path / "state"
    (state / "trash").mkdir(parents=True)
    cluster.configure({"state_dir": str(state)})
    for options in ((), ("--dry-run",)):
        done = cluster.run("cleanup", *options)
        assert (done.exit_code, done.stdout, done.stderr) == (0, "", "slurm-fsx: nothing to remove\n")
    (state / "trash/2001.pyxis_1_a.7").mkdir()
    done = cluster.run("cleanup")
    assert (done.stdout, done.stderr) == ("removing what 2001.pyxis_1_a has written\n", "")
    copies = tmp_path / "slurm-fsx-images"
    copies.mkdir()
    (copies / "half-1.sqsh").write_bytes(b"hsqs")
    cluster.configure({"state_dir": str(state), "stage": str(tmp_path)})
    done = cluster.run("cleanup")
    assert (done.stdout, done.stderr) == (f"removing half-1.sqsh in {copies}, which is no whole copy\n", "")


def test_failures_are_shown_for_a_week_and_with_all_for_ever(cluster) -> None:
    store = Store(str(cluster.folder))
    os.makedirs(store.imports)
    for file, phase, days in (
        ("old-1.sqsh", FAILED, 8),
        ("died-1.sqsh", DOWNLOADING, 8),
        ("new-1.sqsh", FAILED, 6),
        ("done-1.sqsh", DONE, 99),
    ):
        clock_s = time.time() - days * DAY_S
        StateFile(store, file, "", lambda progress: None, lambda clock_s=clock_s: clock_s).tell(Progress(file, phase))
    assert {state.phase for state in read_states(store)} == {FAILED, DIED, DONE}

    def shown(*options: str) -> set[str]:
        return {state["file"] for state in json.loads(cluster.run("status", "--json", *options).stdout)}

    assert shown() == {"new-1.sqsh", "done-1.sqsh"}
    assert shown("--all") == {"new-1.sqsh", "done-1.sqsh", "old-1.sqsh", "died-1.sqsh"}
    assert "old-1" not in cluster.run("status").stdout


def test_a_digest_that_is_not_known_is_null(cluster) -> None:
    images = json.loads(cluster.run("list", "--json").stdout)["images"]
    assert {image["digest"] for image in images} == {None}


def test_a_list_s_mistakes_are_told_with_what_to_do_on_a_line_of_its_own(cluster, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("a.io/x:1 b.io/y:1\n")
    done = cluster.run("sync", "--dry-run", str(listed))
    assert done.exit_code == 1
    assert done.stderr == (
        f"slurm-fsx: {listed}:1: 'a.io/x:1 b.io/y:1' is more than one URI\n           write one a line\n"
    )


def test_a_plan_that_fails_has_its_hint_on_a_line_of_its_own(cluster, tmp_path: Path) -> None:
    (cluster.folder / "a.io_x-1.sqsh").mkdir()
    listed = tmp_path / "list.txt"
    listed.write_text("a.io/x:1\n")
    done = cluster.run("sync", "--dry-run", str(listed))
    assert done.stderr == f"slurm-fsx: a.io/x:1: {cluster.path('a.io_x-1')} is no file\n           remove it\n"


def test_a_bar_that_fails_says_why_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    bars = Bars(["a.io_x-1.sqsh", "a.io_y-1.sqsh"])
    bars.start()
    try:
        bars.tell(Progress("a.io_x-1.sqsh", FAILED, text="a.io has no x:1"))
        assert "a.io/x:1: a.io has no x:1" in capsys.readouterr().err
    finally:
        bars.stop()
