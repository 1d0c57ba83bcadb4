from __future__ import annotations

import hashlib
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.images import make_image
from slurm_fsx_tools.containers.care.verifying import Verification, verify
from slurm_fsx_tools.containers.catalogue import Catalogue
from slurm_fsx_tools.containers.records import Record, write_record
from slurm_fsx_tools.containers.store import Store

STEM = "nvcr.io_nvidia_tool-24.01-py3"
FILE = f"{STEM}.sqsh"
URI = "docker://nvcr.io/nvidia/tool:24.01-py3"

pytestmark = pytest.mark.skipif(not shutil.which("unsquashfs"), reason="needs squashfs-tools")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_image(tmp_path_factory.mktemp("image") / FILE).read_bytes()


@pytest.fixture
def store(site, original: bytes) -> Store:
    """A catalogue with one real image, imported."""
    site.add(STEM, content=original)
    site.fsx.chmod(0o755)
    store = Store(str(site.folder))
    os.makedirs(store.records)
    status = os.stat(store.path(FILE))
    sha256 = hashlib.sha256(original).hexdigest()
    write_record(
        store, FILE, Record(URI, "sha256:1", "amd64", sha256, status.st_size, status.st_mtime_ns, 1.0, "skopeo")
    )
    return store


def change(store: Store, content: bytes) -> None:
    """Write other bytes, with the time stamp of before."""
    before = os.stat(store.path(FILE))
    Path(store.path(FILE)).write_bytes(content)
    os.utime(store.path(FILE), ns=(before.st_atime_ns, before.st_mtime_ns))


def look(store: Store, is_quick: bool = False, stem: str = STEM) -> Verification:
    found = verify(stem, store, Catalogue.scan(store.folder), is_quick, lambda _: None)
    assert found is not None
    return found


def test_an_image_as_it_was_imported_is_sound(store: Store, original: bytes) -> None:
    read: list[int] = []
    found = verify(STEM, store, Catalogue.scan(store.folder), False, read.append)
    assert found is not None
    assert (found.problem, found.is_listed, found.is_hashed) == ("", True, True)
    assert found.record is not None
    assert sum(read) == len(original)


def test_a_single_changed_byte_is_found_by_the_checksum_and_not_without(store: Store, original: bytes) -> None:
    change(store, original[:200] + bytes([original[200] ^ 1]) + original[201:])
    assert "its sha256 is" in look(store).problem
    assert look(store).hint == (f"run: slurm-fsx containers remove {FILE}; then slurm-fsx containers import {URI}")
    assert look(store, is_quick=True).problem == ""


def test_another_size_or_time_is_found_without_reading(store: Store, original: bytes) -> None:
    change(store, original + b"\0")
    assert look(store, is_quick=True).problem == (
        f"it has {len(original) + 1} bytes, and {len(original)} when it was imported"
    )
    change(store, original)
    assert look(store, is_quick=True).problem == ""
    os.utime(store.path(FILE), (1, 1))
    assert look(store, is_quick=True).problem == "it was changed since it was imported"


def test_a_cut_image_is_damaged(store: Store, original: bytes) -> None:
    change(store, original[:-5000])
    assert look(store).problem.startswith("not complete: ")


def test_an_image_without_a_record_is_said_to_be_so_and_its_folders_are_read(store: Store, original: bytes) -> None:
    shutil.copy(store.path(FILE), store.path("copied-1.sqsh"))
    found = look(store, stem="copied-1")
    assert (found.problem, found.record, found.is_hashed) == ("", None, False)
    # Behind the superblock are file contents first: where the tables are, nothing is right any more.
    half = len(original) // 2
    Path(store.path("copied-1.sqsh")).write_bytes(original[:96] + bytes(half) + bytes(len(original) - 96 - half))
    found = look(store, stem="copied-1")
    assert found.problem.startswith("its folders cannot be read: unsquashfs ended with ")
    assert found.hint == "run: slurm-fsx containers remove copied-1.sqsh; then copy it here again"


def test_an_image_that_is_gone_by_now_is_no_finding(store: Store) -> None:
    catalogue = Catalogue.scan(store.folder)
    os.unlink(store.path(FILE))
    assert verify(STEM, store, catalogue, False, lambda _: None) is None


def test_a_link_is_compared_with_the_record_of_its_image(store: Store) -> None:
    os.symlink(FILE, store.path("stable.sqsh"))
    assert look(store, stem="stable").record is not None


@pytest.mark.parametrize("seed", range(24))
def test_hostile_superblocks_and_tables_neither_hang_nor_crash(store: Store, original: bytes, seed: int) -> None:
    """Bytes are changed where a reader takes numbers from: the superblock, and the tables at the end."""
    dice = random.Random(seed)
    content = bytearray(original)
    for _ in range(dice.randint(1, 6)):
        place = dice.randrange(4, 96) if dice.random() < 0.5 else len(content) - dice.randrange(1, 3000)
        content[place] = dice.choice([0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)])
    Path(store.path("hostile-1.sqsh")).write_bytes(content)
    problem = look(store, stem="hostile-1").problem
    assert problem.isprintable()
    assert len(problem) < 400


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Puts a script where unsquashfs is looked for, in a folder that anybody may enter."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        path = Path(folder, "unsquashfs")

        def write(script: str) -> None:
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)

        yield write


def test_a_reader_that_takes_too_long_is_ended(
    store: Store, reader: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader("exec sleep 60")
    monkeypatch.setattr("slurm_fsx_tools.containers.care.verifying.UNSQUASHFS_TIMEOUT_S", 0.3)
    assert look(store).problem == "unsquashfs has not read its folders within 0.3 s"


def test_a_reader_that_talks_without_end_fills_no_disk(store: Store, reader: Callable[[str], None]) -> None:
    reader("exec yes a >&2")
    assert look(store).problem.startswith("its folders cannot be read: unsquashfs ended with ")


def test_what_a_reader_says_cannot_steer_a_terminal(store: Store, reader: Callable[[str], None]) -> None:
    reader("printf 'FATAL \\033[2J' >&2; exit 3")
    assert look(store).problem == "its folders cannot be read: unsquashfs ended with code 3: 'FATAL \\x1b[2J'"


@pytest.mark.usefixtures("needs_root")
def test_root_has_an_image_read_by_somebody_else(store: Store, reader: Callable[[str], None]) -> None:
    reader("id -u >&2; exit 1")
    assert look(store).problem.endswith(": 65534")


def test_without_unsquashfs_the_folders_are_not_said_to_have_been_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    found = look(store)
    assert (found.problem, found.is_listed, found.is_hashed) == ("", False, True)
