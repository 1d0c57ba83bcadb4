from __future__ import annotations

import os
from pathlib import Path

import pytest

from slurm_fsx_tools.containers.records import Record, describes, read_record, read_records, remove_record, write_record
from slurm_fsx_tools.containers.store import Store
from slurm_fsx_tools.errors import UntrustedFile

RECORD = Record("docker://x/y:1", "sha256:1", "amd64", "0" * 64, 96, 123, 5.0, "skopeo")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path))
    os.makedirs(store.records)
    write_record(store, "a.sqsh", RECORD)
    return store


def test_records_are_read_as_they_were_written_one_or_all(store: Store) -> None:
    write_record(store, "b.sqsh", RECORD._replace(uri="docker://x/z:1"))
    assert read_record(store, "a.sqsh") == RECORD
    assert {file: record.uri for file, record in read_records(store).items()} == {
        "a.sqsh": "docker://x/y:1",
        "b.sqsh": "docker://x/z:1",
    }
    assert read_records(Store("/nonexistent")) == {}


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"version": 2}', '{"version": 1}', '{"version": 1, "uri": "x", "more": 1}', "null"]
)
def test_what_is_no_record_is_none(store: Store, content: str) -> None:
    Path(store.records, "a.sqsh.json").write_text(content)
    assert read_record(store, "a.sqsh") is None
    assert read_records(store) == {}


def test_a_planted_record_is_none(store: Store, tmp_path: Path) -> None:
    path = Path(store.records, "a.sqsh.json")
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    assert read_record(store, "a.sqsh") is None
    path.unlink()
    os.mkfifo(path)
    assert read_record(store, "a.sqsh") is None


def test_a_record_goes_and_a_missing_one_is_no_error(store: Store, tmp_path: Path) -> None:
    remove_record(store, "a.sqsh")
    remove_record(store, "a.sqsh")
    remove_record(Store(str(tmp_path / "none")), "a.sqsh")
    assert os.listdir(store.records) == []


def test_no_record_goes_from_behind_a_planted_link(store: Store, tmp_path: Path) -> None:
    os.rename(store.records, tmp_path / "moved")
    os.symlink(tmp_path / "moved", store.records)
    with pytest.raises(UntrustedFile, match="no folder"):
        remove_record(store, "a.sqsh")
    assert os.listdir(tmp_path / "moved") == ["a.sqsh.json"]


def test_a_record_describes_a_file_by_size_and_time(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(bytes(96))
    os.utime(path, ns=(1, 123))
    assert describes(RECORD, path.stat())
    os.utime(path, ns=(1, 124))
    assert not describes(RECORD, path.stat())
