from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from slurm_fsx_tools.errors import UntrustedFile
from slurm_fsx_tools.files import read_trusted, remove, write_atomically


def test_a_file_of_ours_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    assert read_trusted(str(tmp_path / "file")) == b"content"


def _world_writable(path: Path) -> None:
    path.write_text("x")
    path.chmod(0o646)


def _group_writable(path: Path) -> None:
    path.write_text("x")
    path.chmod(0o664)


def _link(path: Path) -> None:
    (path.parent / "target").write_text("x")
    path.symlink_to("target")


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.mkdir()


def _large(path: Path) -> None:
    path.write_bytes(b"x" * ((1 << 20) + 1))


@pytest.mark.parametrize("make", [_world_writable, _group_writable, _link, _fifo, _folder, _large])
def test_what_others_could_have_written_or_would_hang_root_is_refused(tmp_path: Path, make: object) -> None:
    path = tmp_path / "file"
    make(path)  # type: ignore[operator]
    with pytest.raises(UntrustedFile) as caught:
        read_trusted(str(path))
    assert str(path) in caught.value.message
    assert caught.value.hint


@pytest.mark.usefixtures("needs_root")
def test_another_users_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    os.chown(path, 4321, 0)
    with pytest.raises(UntrustedFile, match="belongs to user 4321"):
        read_trusted(str(path))


def test_a_socket_is_an_ordinary_error(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        with pytest.raises(OSError, match="No such device"):
            read_trusted(str(tmp_path / "s"))


def test_a_reader_sees_the_old_content_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(str(path), b"old")
    with path.open("rb") as reader:
        write_atomically(str(path), b"new", mode=0o600)
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_mode_does_not_depend_on_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_atomically(str(tmp_path / "file"), b"")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_a_write_over_a_folder_fails_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_atomically(str(tmp_path / "file"), b"new")
    assert os.listdir(tmp_path) == ["file"]


def test_what_a_killed_writer_left_does_not_stop_the_next_one(tmp_path: Path) -> None:
    (tmp_path / f".file.{os.uname().nodename}.{os.getpid()}").write_bytes(b"half")
    write_atomically(str(tmp_path / "file"), b"whole")
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_a_planted_link_is_replaced_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "file").symlink_to(victim)
    (tmp_path / f".file.{os.uname().nodename}.{os.getpid()}").symlink_to(victim)
    write_atomically(str(tmp_path / "file"), b"new")
    assert victim.read_bytes() == b"precious"
    assert not (tmp_path / "file").is_symlink()


def test_removing_says_whether_something_was_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert remove(str(tmp_path / "file"))
    assert not remove(str(tmp_path / "file"))
