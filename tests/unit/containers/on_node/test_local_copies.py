"""Copies of images on a node's own disk."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_fsx_tools.config.model import Config, Snapshot
from slurm_fsx_tools.containers import plugin
from slurm_fsx_tools.containers.index import update_index
from slurm_fsx_tools.containers.on_demand.pyxis_importer import get
from slurm_fsx_tools.containers.on_node.background_copy import start_copy
from slurm_fsx_tools.containers.on_node.local_copies import FOLDER, CannotCopy, Identity, LocalCopies
from slurm_fsx_tools.containers.records import Record, write_record
from slurm_fsx_tools.containers.store import Store
from slurm_fsx_tools.errors import UntrustedFile
from slurm_fsx_tools.job import Job, Node
from slurm_fsx_tools.shared_fs import SharedFs

KIB = 1024


class Disk:
    """A node's disk beside a shared file system with images."""

    def __init__(self, folder: Path, superblock: Callable[[int], bytes], limit_bytes: int) -> None:
        self.store = Store(f"{folder}/fsx/containers")
        os.makedirs(self.store.records)
        (folder / "scratch").mkdir()
        self.folder = folder / "scratch" / FOLDER
        self.copies = LocalCopies(f"{folder}/scratch", limit_bytes)
        self.config = Config(
            {
                "fsx.root": f"{folder}/fsx",
                "containers.stage": f"{folder}/scratch",
                "containers.stage_limit": limit_bytes,
            }
        )
        self._superblock = superblock

    def add(self, file: str, size_bytes: int = 10 * KIB, mode: int = 0o644) -> Path:
        """Put an image into the catalogue."""
        path = Path(self.store.path(file))
        path.write_bytes(self._superblock(size_bytes) + os.urandom(size_bytes - 96))
        path.chmod(mode)
        return path

    def stage(self, *files: str) -> list[str]:
        lock = self.copies.lock()
        assert lock is not None
        with lock:
            return [self.copies.add(self.store, file) for file in files]

    def use(self, file: str, used_s: float) -> None:
        """Make a copy as if it was last used then."""
        os.utime(self.folder / file, ns=(int(used_s * 1e9), os.stat(self.folder / file).st_mtime_ns))

    def find(self, file: str) -> str | None:
        return self.copies.find(file, Identity.of(os.stat(self.store.path(file))))

    @property
    def files(self) -> list[str]:
        return sorted(name for name in os.listdir(self.folder) if not name.startswith(".lock"))


@pytest.fixture
def disk(tmp_path: Path, make_superblock: Callable[[int], bytes]) -> Disk:
    return Disk(tmp_path, make_superblock, 35 * KIB)


def record_of(path: Path, sha256: str = "") -> Record:
    status = path.stat()
    found = sha256 or hashlib.sha256(path.read_bytes()).hexdigest()
    return Record("docker://a/b:1", "sha256:0", "amd64", found, status.st_size, status.st_mtime_ns, 0.0, "skopeo")


def test_a_copy_is_like_its_source_in_all_that_readers_see(disk: Disk, needs_root: None) -> None:
    source = disk.add("private.sqsh", mode=0o640)
    os.chown(source, 2001, 2002)
    os.utime(source, ns=(5, 1_700_000_000_123_456_789))
    write_record(disk.store, "private.sqsh", record_of(source))
    (path,) = disk.stage("private.sqsh")
    copy, original = os.stat(path), os.stat(source)
    assert path == f"{disk.folder}/private.sqsh"
    assert Path(path).read_bytes() == source.read_bytes()
    for what in ("st_uid", "st_gid", "st_mode", "st_size", "st_mtime_ns"):
        assert getattr(copy, what) == getattr(original, what), what
    assert os.stat(disk.folder).st_mode & 0o777 == 0o755


def test_a_copy_that_is_there_is_not_made_again(disk: Disk) -> None:
    disk.add("a.sqsh")
    disk.stage("a.sqsh")
    before = os.stat(disk.folder / "a.sqsh").st_ino
    disk.stage("a.sqsh")
    assert os.stat(disk.folder / "a.sqsh").st_ino == before


def test_an_image_that_becomes_private_has_a_private_copy_from_the_next_time_on(disk: Disk) -> None:
    source = disk.add("a.sqsh")
    disk.stage("a.sqsh")
    source.chmod(0o600)
    disk.stage("a.sqsh")
    assert os.stat(disk.folder / "a.sqsh").st_mode & 0o777 == 0o600


def set_acl(path: Path, *entries: tuple[int, int, int]) -> None:
    """Give a file an access control list, as the kernel takes it: tag, rights and id of each entry."""
    data = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", data)
    except OSError as error:
        pytest.skip(f"no access control lists here: {error}")


def test_an_image_with_an_access_control_list_has_no_copy(disk: Disk) -> None:
    path = disk.add("a.sqsh", mode=0o640)
    nobody = 2**32 - 1
    user, group, mask = (2, 4, 2001), (4, 0, nobody), (16, 4, nobody)
    disk.stage("a.sqsh")
    set_acl(path, (1, 6, nobody), user, group, mask, (32, 0, nobody))
    assert path.stat().st_mode & 0o777 == 0o640  # by which the group could read it, and it cannot
    for _ in range(2):
        with pytest.raises(CannotCopy, match="has an access control list"):
            disk.stage("a.sqsh")
        assert disk.files == []


def test_what_was_not_used_for_longest_goes_first(disk: Disk) -> None:
    for number, file in enumerate(("a.sqsh", "b.sqsh", "c.sqsh")):
        disk.add(file)
        disk.stage(file)
        disk.use(file, 1_700_000_000 + number)
    assert disk.find("a.sqsh")  # a user used the oldest again
    disk.add("d.sqsh")
    disk.stage("d.sqsh")
    assert disk.files == ["a.sqsh", "c.sqsh", "d.sqsh"]
    disk.add("large.sqsh", 30 * KIB)
    disk.stage("large.sqsh")
    assert disk.files == ["large.sqsh"]


def test_an_image_larger_than_the_limit_drives_nothing_out(disk: Disk) -> None:
    disk.add("a.sqsh")
    disk.add("large.sqsh", 36 * KIB)
    disk.stage("a.sqsh")
    with pytest.raises(CannotCopy, match="stage_limit"):
        disk.stage("large.sqsh")
    assert disk.files == ["a.sqsh"]


def test_a_full_disk_is_respected(tmp_path: Path, make_superblock: Callable[[int], bytes], needs_root: None) -> None:
    disk = Disk(tmp_path, make_superblock, 1 << 30)
    scratch = tmp_path / "scratch"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", scratch], check=True)
    try:
        for file, size in (("a.sqsh", 400 * KIB), ("b.sqsh", 500 * KIB), ("c.sqsh", 990 * KIB)):
            disk.add(file, size)
        disk.stage("a.sqsh", "b.sqsh")
        with pytest.raises(CannotCopy, match="one twentieth"):
            disk.stage("c.sqsh")
        assert disk.files == ["a.sqsh", "b.sqsh"]
        disk.add("d.sqsh", 300 * KIB)
        disk.stage("d.sqsh")
        assert disk.files == ["b.sqsh", "d.sqsh"]
    finally:
        subprocess.run(["umount", scratch], check=True)


def test_an_image_that_is_replaced_gets_a_new_copy_in_its_place(disk: Disk) -> None:
    disk.add("a.sqsh", 20 * KIB)
    disk.add("b.sqsh")
    disk.stage("a.sqsh", "b.sqsh")
    disk.use("b.sqsh", 1_600_000_000)
    os.unlink(disk.store.path("a.sqsh"))
    disk.add("a.sqsh", 24 * KIB)
    assert disk.find("a.sqsh") is None
    disk.stage("a.sqsh")
    assert disk.find("a.sqsh")
    assert disk.files == ["a.sqsh", "b.sqsh"]


def test_an_image_that_is_not_what_its_record_says_is_not_copied(disk: Disk) -> None:
    source = disk.add("a.sqsh")
    write_record(disk.store, "a.sqsh", record_of(source, sha256="0" * 64))
    with pytest.raises(CannotCopy, match="sha256"):
        disk.stage("a.sqsh")
    assert disk.files == []


def test_half_an_image_is_not_copied(disk: Disk) -> None:
    os.truncate(disk.add("a.sqsh"), 5 * KIB)
    with pytest.raises(CannotCopy, match="not complete"):
        disk.stage("a.sqsh")
    assert disk.files == []


def test_an_image_that_is_replaced_while_it_is_copied_leaves_no_copy(
    tmp_path: Path, make_superblock: Callable[[int], bytes]
) -> None:
    disk = Disk(tmp_path, make_superblock, 1 << 30)
    source = disk.add("a.sqsh", 64 << 20)
    other = disk.add("b.sqsh", 64 << 20)
    copier = start_copier(disk)
    wait_for_unfinished(disk)
    copier.send_signal(signal.SIGSTOP)
    os.rename(other, source)
    copier.send_signal(signal.SIGCONT)
    assert copier.wait(timeout=60) == 3
    assert disk.files == []


COPIER = """
import sys
from slurm_fsx_tools.containers.on_node import local_copies
from slurm_fsx_tools.containers.store import Store
import os, time
local_copies._CHUNK_BYTES = 1 << 16
copies = local_copies.LocalCopies(sys.argv[1], 1 << 30)
try:
    with copies.lock(timeout_s=60):
        copies.add(Store(sys.argv[2]), "a.sqsh")
except local_copies.CannotCopy:
    sys.exit(3)
"""


def start_copier(disk: Disk) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", COPIER, str(disk.folder.parent), disk.store.folder])


def wait_for_unfinished(disk: Disk) -> None:
    end = time.monotonic() + 30
    while not (disk.folder.is_dir() and any(name.startswith(".copy-") for name in os.listdir(disk.folder))):
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_killed_copier_leaves_nothing_that_stays(tmp_path: Path, make_superblock: Callable[[int], bytes]) -> None:
    disk = Disk(tmp_path, make_superblock, 1 << 30)
    disk.add("a.sqsh", 64 << 20)
    copier = start_copier(disk)
    wait_for_unfinished(disk)
    copier.send_signal(signal.SIGKILL)
    copier.wait()
    assert any(name.startswith(".copy-") for name in disk.files)
    assert disk.find("a.sqsh") is None
    disk.stage("a.sqsh")
    assert disk.files == ["a.sqsh"]


def test_copiers_on_one_node_take_turns_and_copy_once(tmp_path: Path, make_superblock: Callable[[int], bytes]) -> None:
    disk = Disk(tmp_path, make_superblock, 1 << 30)
    disk.add("a.sqsh", 16 << 20)
    copiers = [start_copier(disk) for _ in range(6)]
    inodes = set()
    while any(copier.poll() is None for copier in copiers):
        unfinished = [name for name in (disk.files if disk.folder.is_dir() else []) if name.startswith(".copy-")]
        assert len(unfinished) <= 1
        if (disk.folder / "a.sqsh").exists():
            inodes.add(os.stat(disk.folder / "a.sqsh").st_ino)
        time.sleep(0.005)
    assert [copier.returncode for copier in copiers] == [0] * 6
    assert len(inodes | {os.stat(disk.folder / "a.sqsh").st_ino}) == 1


def test_a_broken_copy_is_not_used_and_goes_with_the_next(disk: Disk) -> None:
    source = disk.add("a.sqsh")
    disk.add("b.sqsh")
    disk.stage("a.sqsh")
    with open(disk.folder / "a.sqsh", "r+b") as file:
        file.write(b"\0" * 96)
    os.utime(disk.folder / "a.sqsh", ns=(0, source.stat().st_mtime_ns))
    assert disk.find("a.sqsh") is None
    disk.stage("b.sqsh")
    assert disk.files == ["b.sqsh"]


def test_links_among_copies_and_images_are_not_followed(disk: Disk, tmp_path: Path) -> None:
    disk.add("a.sqsh")
    disk.stage("a.sqsh")
    os.rename(disk.folder / "a.sqsh", tmp_path / "elsewhere.sqsh")
    os.symlink(tmp_path / "elsewhere.sqsh", disk.folder / "a.sqsh")
    assert disk.find("a.sqsh") is None
    disk.stage("a.sqsh")
    assert not (disk.folder / "a.sqsh").is_symlink()
    os.symlink("/etc/shadow", disk.store.path("b.sqsh"))
    with pytest.raises(OSError, match="symbolic links"):
        disk.stage("b.sqsh")


def test_a_folder_that_a_user_made_first_is_not_used(disk: Disk, needs_root: None) -> None:
    disk.add("a.sqsh")
    disk.folder.mkdir()
    os.chown(disk.folder, 2001, 2001)
    with pytest.raises(UntrustedFile, match="2001"):
        disk.stage("a.sqsh")
    shutil.copy2(disk.store.path("a.sqsh"), disk.folder / "a.sqsh")
    assert disk.find("a.sqsh") is None


def test_eviction_takes_what_is_named_or_all(disk: Disk) -> None:
    for file in ("a.sqsh", "b.sqsh", "c.sqsh"):
        disk.add(file)
        disk.stage(file)
    assert [copy.file for copy in disk.copies.evict(["b.sqsh"])] == ["b.sqsh"]
    assert disk.files == ["a.sqsh", "c.sqsh"]
    assert len(disk.copies.evict()) == 2
    assert disk.files == []


def job(container: str = "", image: str = "") -> Job:
    return Job("1", 2001, "ada", "all", Node("n1"), container=container, image=image)


def index(disk: Disk) -> None:
    os.utime(disk.store.folder, (1_700_000_000, 1_700_000_000))
    update_index(disk.config, must_ask=False)


@pytest.mark.parametrize(
    ("container", "image"),
    [
        pytest.param("pytorch", "", id="container-name"),
        pytest.param("pytorch-24.03:no_exec", "", id="pin-with-flag"),
        pytest.param("", "nvcr.io#nvidia/pytorch:24.03-py3", id="image"),
        pytest.param("mine", "pytorch", id="name-and-image"),
        pytest.param("", "FOLDER/nvcr.io_nvidia_pytorch-24.03-py3.sqsh", id="path"),
    ],
)
def test_a_prolog_has_the_jobs_image_copied_behind_its_back(disk: Disk, container: str, image: str) -> None:
    file = "nvcr.io_nvidia_pytorch-24.03-py3.sqsh"
    disk.add(file)
    index(disk)
    shared_fs = SharedFs(disk.config["fsx.root"], 30.0)
    plugin.slurm_fsx_prolog(job(container, image.replace("FOLDER", disk.store.folder)), disk.config, shared_fs)
    end = time.monotonic() + 30
    while disk.find(file) is None:
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("image", ["/etc/passwd", "../x.sqsh", "unknown", "docker://a b", "-x"])
def test_a_prolog_copies_only_images_of_the_catalogue(disk: Disk, image: str) -> None:
    disk.add("pytorch-24.03.sqsh")
    index(disk)
    start_copy(job(image=image), disk.config, SharedFs(disk.config["fsx.root"], 30.0))
    assert not disk.folder.exists()


def test_without_a_folder_for_copies_a_prolog_touches_nothing(disk: Disk) -> None:
    class Untouchable:
        def look(self, function: object) -> object:
            raise AssertionError("the shared file system was touched")

    config = Config({"fsx.root": disk.config["fsx.root"]})
    plugin.slurm_fsx_prolog(job("pytorch"), config, Untouchable())  # type: ignore[arg-type]
    with pytest.raises(AssertionError):
        plugin.slurm_fsx_prolog(job("pytorch"), disk.config, Untouchable())  # type: ignore[arg-type]


def test_the_importer_answers_with_the_copy_while_it_is_alike(disk: Disk) -> None:
    source = disk.add("pytorch-24.03.sqsh")
    snapshot = Snapshot(Config({**disk.config.as_dict(), "fsx.timeout": 30.0}), (), "", {})
    assert get("docker://pytorch", snapshot, {}) == str(source)
    disk.stage("pytorch-24.03.sqsh")
    assert get("docker://pytorch", snapshot, {}) == str(disk.folder / "pytorch-24.03.sqsh")
    os.utime(source)
    assert get("docker://pytorch", snapshot, {}) == str(source)
