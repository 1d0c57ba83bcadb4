from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_fsx_tools.containers.on_node.trash import DEEPEST, empty_trash


@pytest.fixture
def trash(tmp_path: Path) -> Path:
    path = tmp_path / "trash"
    path.mkdir()
    return path


def fill(folder: Path) -> None:
    """Leave what a container might: files, links, folders that nobody may enter."""
    inner = folder / "upper/opt"
    inner.mkdir(parents=True)
    (inner / "file").write_text("x")
    (inner / "link").symlink_to("/etc")
    (inner / "dangling").symlink_to("/nowhere")
    os.mkfifo(inner / "fifo")
    (folder / "work/work").mkdir(parents=True, mode=0)


def test_all_is_deleted_and_the_folder_stays(trash: Path) -> None:
    for name in ("a", "b"):
        fill(trash / name)
    (trash / "file").write_text("x")
    assert empty_trash(str(trash), 60)
    assert list(trash.iterdir()) == []


def test_a_link_takes_nothing_with_it(trash: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    (trash / "link").symlink_to(precious)
    (trash / "a").mkdir()
    (trash / "a/link").symlink_to(precious)
    assert empty_trash(str(trash), 60)
    assert (precious / "file").exists()


def test_a_trash_that_is_a_link_is_left_alone(trash: Path, tmp_path: Path) -> None:
    (trash / "file").write_text("x")
    (tmp_path / "link").symlink_to(trash)
    with pytest.raises(OSError, match="link"):
        empty_trash(str(tmp_path / "link"), 60)
    assert (trash / "file").exists()


def test_folders_deeper_than_files_may_be_open_are_deleted(trash: Path) -> None:
    folder = os.open(trash, os.O_RDONLY)
    for _ in range(40 * DEEPEST):
        os.mkdir("d", dir_fd=folder)
        inner = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    assert empty_trash(str(trash), 60)
    assert list(trash.iterdir()) == []


@pytest.mark.usefixtures("needs_root")
def test_one_that_cannot_be_deleted_keeps_none_of_the_others(trash: Path) -> None:
    for name in "abc":
        fill(trash / name)
        (trash / name / "mounted").mkdir()
    listed = os.listdir(trash)
    code = (
        "import sys\nfrom slurm_fsx_tools.containers.on_node.trash import empty_trash\n"
        "try:\n    empty_trash(sys.argv[1], 60)\nexcept OSError as error:\n    print(error)\n"
    )
    script = 'mount -t tmpfs none "$1/$2/mounted" && exec "$0" -c "$3" "$1"'
    # The first that is met: without one failing, the others' turn would never come.
    command = ["unshare", "--mount", "sh", "-c", script, sys.executable, str(trash), listed[0], code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"cannot mount here: {done.stderr}")
    assert "something is mounted there: 'mounted'" in done.stdout
    assert os.listdir(trash) == [listed[0]]


def test_what_there_is_no_time_for_stays_for_the_next_time(trash: Path) -> None:
    for name in "abcdef":
        (trash / name).write_text("x")
    ticks = iter(range(100))
    assert not empty_trash(str(trash), 2.5, lambda: next(ticks))
    assert len(list(trash.iterdir())) == 4
    assert empty_trash(str(trash), 60)


def test_a_folder_that_is_missing_is_empty(tmp_path: Path) -> None:
    assert empty_trash(str(tmp_path / "none"), 60)


def test_an_epilog_deletes_what_was_put_aside(trash: Path, tmp_path: Path) -> None:
    from slurm_fsx_tools.config.model import Config
    from slurm_fsx_tools.containers import plugin

    plugin.slurm_fsx_epilog(Config({"containers.state_dir": str(tmp_path / "none")}))
    fill(trash / "a")
    plugin.slurm_fsx_epilog(Config({"containers.state_dir": str(tmp_path)}))
    assert list(trash.iterdir()) == []
