"""Archives and folders that try to get out of where they are unpacked."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from slurm_fsx_tools.errors import InstallFailed
from slurm_fsx_tools.nccl.installs.unpacking import copy_folder, unpack_tarball, unpack_wheel


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", content: bytes = b"") -> tuple:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(content)
    return info, content


def tarball(path: Path, *members: tuple) -> str:
    with tarfile.open(path, "w:gz") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return str(path)


def test_the_one_folder_around_all_files_is_left_out(tmp_path: Path) -> None:
    path = tarball(
        tmp_path / "a.tar.gz",
        member("a-1", tarfile.DIRTYPE),
        member("a-1/Makefile", content=b"all:\n"),
        member("a-1/link", tarfile.SYMTYPE, "Makefile"),
    )
    found = unpack_tarball(path, str(tmp_path / "out"))
    assert sorted(os.listdir(tmp_path / "out")) == ["Makefile", "link"]
    assert found == hashlib.sha256(Path(path).read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "members",
    [
        pytest.param([member("../out", content=b"x")], id="above"),
        pytest.param([member("a/../../out", content=b"x")], id="above-by-a-detour"),
        pytest.param([member("/etc/out", content=b"x")], id="absolute"),
        pytest.param([member("l", tarfile.SYMTYPE, "/etc/passwd")], id="link-absolute"),
        pytest.param([member("d/l", tarfile.SYMTYPE, "../../out")], id="link-above"),
        pytest.param(
            [member("s/d/up", tarfile.SYMTYPE, "../.."), member("e", tarfile.SYMTYPE, "s/d/up/../x")], id="two-links"
        ),
        pytest.param([member("l", tarfile.SYMTYPE, ".."), member("l/out", content=b"x")], id="through-a-link"),
        pytest.param([member("a", content=b"x"), member("h", tarfile.LNKTYPE, "a")], id="hard-link"),
        pytest.param([member("n", tarfile.CHRTYPE)], id="device"),
        pytest.param([member("f", tarfile.FIFOTYPE)], id="fifo"),
        pytest.param([member("a", content=b"x"), member("a", content=b"y")], id="twice"),
        pytest.param([member("a", content=b"x"), member("a/b", content=b"y")], id="file-as-folder"),
    ],
)
def test_a_member_that_does_no_good_is_refused(tmp_path: Path, members: list[tuple]) -> None:
    folder = tmp_path / "in/folder"
    folder.parent.mkdir()
    path = tarball(tmp_path / "a.tar.gz", *members, member("z", content=b"z"))
    with pytest.raises(InstallFailed, match="do not trust it"):
        unpack_tarball(path, str(folder))
    assert not (tmp_path / "in/out").exists()
    assert not (tmp_path / "out").exists()


def test_a_damaged_tarball_is_told_as_one(tmp_path: Path) -> None:
    path = Path(tarball(tmp_path / "a.tar.gz", member("a", content=os.urandom(100_000))))
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(InstallFailed, match="is no whole tarball"):
        unpack_tarball(str(path), str(tmp_path / "out"))


def test_a_wheel_gives_library_and_headers_alone(tmp_path: Path) -> None:
    path = tmp_path / "nvidia_nccl_cu12-2.28.7-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("nvidia/nccl/lib/libnccl.so.2", "nvidia/nccl/include/nccl.h", "nvidia/__init__.py", "x/RECORD"):
            archive.writestr(name, "x")
    unpack_wheel(str(path), str(tmp_path / "out"))
    files = sorted(str(each.relative_to(tmp_path / "out")) for each in (tmp_path / "out").rglob("*.*"))
    assert files == ["include/nccl.h", "lib/libnccl.so", "lib/libnccl.so.2"]


@pytest.mark.parametrize("name", ["nvidia/nccl/lib/../../../../out", "/out", "nvidia/nccl/lib/link"])
def test_a_wheel_that_gets_out_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.whl"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo(name)
        if name.endswith("link"):
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(InstallFailed, match="do not trust it"):
        unpack_wheel(str(path), str(tmp_path / "out"))


def test_a_folders_link_to_elsewhere_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "link").symlink_to("/etc/passwd")
    with pytest.raises(InstallFailed, match="is a link to /etc/passwd"):
        copy_folder(str(source), str(tmp_path / "out"))


def test_a_folders_sum_changes_with_content_and_names(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_text("1")
    (source / ".git").mkdir()
    first = copy_folder(str(source), str(tmp_path / "1"))
    assert os.listdir(tmp_path / "1") == ["a"]
    assert copy_folder(str(source), str(tmp_path / "2")) == first
    (source / "a").rename(source / "b")
    assert copy_folder(str(source), str(tmp_path / "3")) != first


def test_nothing_is_written_through_a_link_by_another_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    path = tarball(
        tmp_path / "a.tar.gz",
        member("x/a", tarfile.SYMTYPE, str(outside)),
        member("x/a/planted.sh", tarfile.SYMTYPE, "/bin/true"),
        member("x/a/folder/planted.sh", tarfile.SYMTYPE, "/bin/true"),
    )
    with pytest.raises(InstallFailed, match="do not trust it"):
        unpack_tarball(path, str(tmp_path / "out"))
    assert os.listdir(outside) == []
