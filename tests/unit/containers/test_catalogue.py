from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_fsx_tools.containers.catalogue import Catalogue
from slurm_fsx_tools.errors import SharedFsUnavailable

NOBODY = 65534


def reasons(site) -> dict[str, str]:
    return {reject.file: reject.reason for reject in site.scan().rejects}


def test_an_image_is_listed_with_its_name_size_and_date(site) -> None:
    site.add("nvcr.io_nvidia_pytorch-24.01-py3")
    path = site.folder / "nvcr.io_nvidia_pytorch-24.01-py3.sqsh"
    os.utime(path, (1_700_000_000, 1_700_000_000))
    (image,) = site.scan().images
    assert image.path == str(path)
    assert str(image.name) == "nvcr.io/nvidia/pytorch:24.01-py3"
    assert (image.size_bytes, image.modified_s) == (96, 1_700_000_000)


@pytest.mark.skipif(not shutil.which("mksquashfs"), reason="needs mksquashfs")
@pytest.mark.parametrize("compressor", ["gzip", "zstd", "lz4", "xz"])
def test_what_mksquashfs_makes_is_an_image_and_cut_short_it_is_none(site, tmp_path: Path, compressor: str) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root/file").write_bytes(os.urandom(20_000))
    made = site.folder / "real-1.sqsh"
    subprocess.run(
        ["mksquashfs", tmp_path / "root", made, "-comp", compressor, "-no-progress"], check=True, capture_output=True
    )
    assert [image.stem for image in site.scan().images] == ["real-1"]
    os.truncate(made, 12_000)
    assert reasons(site)["real-1.sqsh"].startswith("not complete: 12000 of 2")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "not complete: it is empty, or begins with zeros", id="empty"),
        pytest.param(bytes(8192), "not complete: it is empty, or begins with zeros", id="superblock-to-come"),
        pytest.param(b"hsqs", "not complete: only 4 bytes are there", id="magic-alone"),
        pytest.param(b"<html>rate limit</html>" * 9, "no squashfs image", id="html"),
        pytest.param(b"\x7fELF" + bytes(200), "no squashfs image", id="program"),
        pytest.param(b"sqsh" + bytes(200), "no squashfs image", id="big-endian"),
        pytest.param(b"hsqs" + bytes(92), "squashfs version 0, and only version 4 can be mounted", id="old"),
    ],
)
def test_a_file_that_is_no_image_is_listed_with_the_reason(site, content: bytes, reason: str) -> None:
    site.add("x-1", content=content)
    assert reasons(site) == {"x-1.sqsh": reason}
    assert site.scan().images == []


@pytest.mark.parametrize(
    ("bytes_used", "reason"),
    [
        pytest.param(97, "not complete: 96 of 97 bytes are there", id="one-byte-short"),
        pytest.param(2**64 - 1, f"not complete: 96 of {2**64 - 1} bytes are there", id="huge"),
        pytest.param(0, "a superblock that makes no sense", id="nothing-used"),
    ],
)
def test_a_superblock_is_held_against_the_files_size(
    site, make_superblock: Callable[..., bytes], bytes_used: int, reason: str
) -> None:
    site.add("x-1", content=make_superblock(bytes_used))
    assert reasons(site) == {"x-1.sqsh": reason}


@pytest.mark.parametrize("file", [".x-1.sqsh", ".x-1.sqsh.Ab12Cd", "x-1.sqsh.part", "x-1.sqsh~", "x-1.sqsh.1234"])
def test_an_unfinished_copy_is_listed_as_one(site, make_superblock: Callable[..., bytes], file: str) -> None:
    (site.folder / file).write_bytes(make_superblock())
    assert reasons(site) == {file: "not complete: a name of unfinished copies"}


def test_files_that_do_not_claim_to_be_images_are_left_alone(site) -> None:
    (site.folder / "README").write_text("hello")
    (site.folder / ".slurm-fsx").mkdir()
    (site.folder / ".slurm-fsx/x-1.sqsh").write_text("staged")
    (site.folder / "sub").mkdir()
    catalogue = site.scan()
    assert (catalogue.images, catalogue.rejects) == ([], [])


def test_what_is_no_file_is_listed_and_does_not_hang(site) -> None:
    os.mkfifo(site.folder / "fifo.sqsh")
    (site.folder / "folder.sqsh").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(site.folder / "socket.sqsh"))
    (site.folder / "link.sqsh").symlink_to("fifo.sqsh")
    found = reasons(site)
    assert found.pop("link.sqsh").endswith("fifo.sqsh, which is no file")
    assert found == dict.fromkeys(("fifo.sqsh", "folder.sqsh", "socket.sqsh"), "no file")


def test_a_file_that_became_a_fifo_after_the_listing_does_not_hang(site) -> None:
    site.add("x-1")
    catalogue = site.catalogue()
    (site.folder / "x-1.sqsh").unlink()
    os.mkfifo(site.folder / "x-1.sqsh")
    assert catalogue.image("x-1") is None
    assert catalogue.rejects[0].reason == "no file"


def test_a_file_that_became_a_link_after_the_listing_is_not_followed(site, tmp_path: Path) -> None:
    site.add("x-1")
    catalogue = site.catalogue()
    (site.folder / "x-1.sqsh").rename(tmp_path / "elsewhere")
    (site.folder / "x-1.sqsh").symlink_to(tmp_path / "elsewhere")
    assert catalogue.image("x-1") is None


def test_a_file_that_is_gone_after_the_listing_is_neither_image_nor_reject(site) -> None:
    site.add("x-1")
    catalogue = site.catalogue()
    (site.folder / "x-1.sqsh").unlink()
    assert catalogue.image("x-1") is None
    assert catalogue.rejects == []


@pytest.mark.parametrize("absolute", [False, True], ids=["relative", "absolute"])
def test_a_link_inside_the_folder_leads_to_the_file_itself(site, absolute: bool) -> None:
    site.add("x-1")
    (site.folder / "stable.sqsh").symlink_to(site.folder / "x-1.sqsh" if absolute else "x-1.sqsh")
    (site.folder / "chain.sqsh").symlink_to("stable.sqsh")
    for stem in ("stable", "chain"):
        image = site.scan().image(stem)
        assert image
        assert image.path == str(site.folder / "x-1.sqsh")
        assert image.is_for_all


def test_a_link_into_a_subfolder_is_followed_but_nothing_to_keep_in_an_index(site) -> None:
    site.add("x-1")
    (site.folder / "old").mkdir()
    (site.folder / "x-1.sqsh").rename(site.folder / "old/x-1.sqsh")
    (site.folder / "x-1.sqsh").symlink_to("old/x-1.sqsh")
    image = site.scan().image("x-1")
    assert image
    assert image.path == str(site.folder / "old/x-1.sqsh")
    assert not image.is_for_all


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        pytest.param("{outside}/image", "a link to {outside}/image, outside the folder", id="absolute"),
        pytest.param("../../outside/image", "a link to {outside}/image, outside the folder", id="climbs"),
        pytest.param("door/image", "a link to {outside}/image, outside the folder", id="through-another-link"),
        pytest.param("/dev/null", "a link to /dev/null, outside the folder", id="device"),
        pytest.param("/etc/shadow", "a link to /etc/shadow, outside the folder", id="secret"),
        pytest.param("{sibling}/image", "a link to {sibling}/image, outside the folder", id="folder-with-longer-name"),
        pytest.param("gone.sqsh", "a link to gone.sqsh, which is missing", id="dangling"),
        pytest.param(".hidden", "a link to {folder}/.hidden, which is hidden", id="hidden"),
        pytest.param(".", "a link to {folder}, outside the folder", id="the-folder-itself"),
        pytest.param("trap.sqsh", "cannot be opened: Too many levels of symbolic links", id="itself"),
        pytest.param("x\x1b[2J", "a link to x\\x1b[2J, which is missing", id="hostile-text"),
    ],
)
def test_a_link_that_leaves_the_folder_is_no_image(
    site, tmp_path: Path, make_superblock: Callable[..., bytes], target: str, reason: str
) -> None:
    places = {"outside": str(tmp_path / "outside"), "folder": str(site.folder), "sibling": f"{site.folder}2"}
    for folder in (places["outside"], places["sibling"]):
        os.mkdir(folder)
        Path(folder, "image").write_bytes(make_superblock())
    (site.folder / ".hidden").write_bytes(make_superblock())
    (site.folder / "door").symlink_to(places["outside"])
    (site.folder / "trap.sqsh").symlink_to(target.format(**places))
    assert reasons(site)["trap.sqsh"] == reason.format(**places)


def test_the_containers_folder_may_be_behind_a_link_itself(site, tmp_path: Path) -> None:
    site.add("x-1")
    (site.folder / "stable.sqsh").symlink_to("x-1.sqsh")
    (tmp_path / "elsewhere").symlink_to(site.folder)
    images = Catalogue.scan(str(tmp_path / "elsewhere")).images
    assert [image.path for image in images] == [f"{tmp_path}/elsewhere/x-1.sqsh"] * 2


@pytest.mark.usefixtures("needs_root")
def test_an_image_that_the_user_may_not_read_is_none_to_that_user_and_not_for_all(site, tmp_path: Path) -> None:
    site.add("open-1", "private-1")
    (site.folder / "private-1.sqsh").chmod(0o600)
    assert {image.stem: image.is_for_all for image in site.scan().images} == {"open-1": True, "private-1": False}

    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(0o755)
    code = (
        f"import os, sys; sys.path.insert(0, {str(Path(__file__).resolve().parents[3])!r})\n"
        "from slurm_fsx_tools.containers.catalogue import Catalogue\n"
        f"os.setuid({NOBODY}); print(*Catalogue.scan({str(site.folder)!r}).rejects, sep='\\n')"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == f"Reject(file='private-1.sqsh', reason='not readable for user {NOBODY}')\n"


@pytest.mark.parametrize(
    "stem",
    [
        pytest.param("a\nb", id="newline"),
        pytest.param("a\tb", id="tab"),
        pytest.param("a\x1b[31m", id="terminal"),
        pytest.param("a\u202eb", id="right-to-left"),
        pytest.param(os.fsdecode(b"a\xffb"), id="no-utf-8"),
    ],
)
def test_a_name_that_cannot_be_printed_is_no_candidate(site, stem: str) -> None:
    site.add(stem)
    assert reasons(site) == {f"{stem}.sqsh": "a name with characters that cannot be printed"}


@pytest.mark.parametrize("stem", ["a b;rm -rf $HOME", "пайторч-24.01", "..", "-rf", "'quoted\"", "x" * 250])
def test_odd_names_are_only_names(site, stem: str) -> None:
    site.add(stem)
    # A name that begins with a dot is one of an unfinished copy; everything else is an image.
    assert [image.stem for image in site.scan().images] == ([] if stem.startswith(".") else [stem])


def test_a_folder_that_cannot_be_listed_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SharedFsUnavailable, match=r"gone cannot be listed: No such file.*; see whether .* is mounted"):
        Catalogue(f"{tmp_path}/gone")


def test_only_the_files_that_are_asked_for_are_looked_into(site) -> None:
    site.add("x-1")
    site.add("y-1", content=b"no image")
    catalogue = site.catalogue()
    assert catalogue.image("x-1")
    assert catalogue.rejects == []
    assert catalogue.image("unknown") is None


def test_many_files_are_looked_into_by_a_user_who_may_start_no_thread(site) -> None:
    site.add(*(f"tool-{number}" for number in range(1000)))
    code = (
        f"import resource, sys; sys.path.insert(0, {str(Path(__file__).resolve().parents[3])!r})\n"
        "from slurm_fsx_tools.containers.catalogue import Catalogue\n"
        "resource.setrlimit(resource.RLIMIT_AS, (200 << 20, 200 << 20))\n"
        "import threading; threading.stack_size(1 << 30)\n"
        f"print(len(Catalogue.scan({str(site.folder)!r}).images))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("1000\n", "")


def test_no_descriptor_is_left_open(site) -> None:
    site.add(*(f"tool-{number}" for number in range(1000)))
    (site.folder / "link.sqsh").symlink_to("/etc/passwd")
    before = len(os.listdir("/proc/self/fd"))
    site.scan()
    assert len(os.listdir("/proc/self/fd")) == before


def test_ten_thousand_images_are_no_problem(site) -> None:
    for number in range(10_000):
        site.add(f"nvcr.io_nvidia_tool{number // 5}-24.{number % 5:02}-py3")
    site.add("half-1", content=b"")
    start = time.perf_counter()
    catalogue = site.scan()
    taken_s = time.perf_counter() - start
    assert len(catalogue.images) == 10_000
    assert [reject.file for reject in catalogue.rejects] == ["half-1.sqsh"]
    assert taken_s < 1
