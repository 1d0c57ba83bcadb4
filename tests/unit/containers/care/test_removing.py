from __future__ import annotations

import os
from pathlib import Path

import pytest

from slurm_fsx_tools.containers.care.removing import check_removable, file_of, remove_image
from slurm_fsx_tools.containers.imports.folders import make_lock_folder
from slurm_fsx_tools.containers.imports.state import DONE, Progress, StateFile, read_states
from slurm_fsx_tools.containers.records import Record, read_record, write_record
from slurm_fsx_tools.containers.store import Store
from slurm_fsx_tools.errors import ImageInUse, ImageNotFound, LockTimeout, UntrustedFile
from slurm_fsx_tools.shared_lock import try_hold
from slurm_fsx_tools.uses import UNUSED, Activity, Use, read_uses

STEM = "nvcr.io_nvidia_tool-24.01-py3"
FILE = f"{STEM}.sqsh"
RECORD = Record("docker://nvcr.io/nvidia/tool:24.01-py3", "sha256:0", "amd64", "0", 96, 1, 1.0, "skopeo")


@pytest.fixture
def store(site) -> Store:
    site.add(STEM, "other-1")
    store = Store(str(site.folder))
    for folder in (store.records, f"{store.uses}/{FILE}", store.locks):
        os.makedirs(folder)
    write_record(store, FILE, RECORD)
    return store


@pytest.mark.parametrize(
    "name", [STEM, FILE, "nvcr.io/nvidia/tool:24.01-py3", "docker://nvcr.io/nvidia/tool:24.01-py3"]
)
def test_a_file_or_a_whole_uri_names_an_image(site, store: Store, name: str) -> None:
    assert file_of(name, site.catalogue()) == FILE


@pytest.mark.parametrize(
    "name", ["tool", "tool-24.01", "nvcr.io/nvidia/tool:24", "../x", "..", "", f"../containers/{FILE}", "a b:c"]
)
def test_a_name_that_could_mean_another_image_tomorrow_is_not_taken(site, store: Store, name: str) -> None:
    with pytest.raises(ImageNotFound, match="is no file of"):
        file_of(name, site.catalogue())


def test_an_image_goes_with_its_record_and_uses(site, store: Store) -> None:
    Path(store.uses, FILE, "7").touch()
    assert remove_image(FILE, store, frozenset({"7"})) == (FILE, 96)
    assert not os.path.exists(store.path(FILE))
    assert read_record(store, FILE) is None
    assert os.listdir(store.uses) == os.listdir(store.records) == []
    assert os.path.exists(store.path("other-1.sqsh"))


def test_what_is_known_of_its_import_goes_too(store: Store) -> None:
    os.makedirs(store.imports)
    for file in (FILE, "other-1.sqsh"):
        StateFile(store, file, "docker://x/y:1", lambda progress: None, lambda: 1.0).tell(Progress(file, DONE))
    remove_image(FILE, store, ())
    assert [state.file for state in read_states(store)] == ["other-1.sqsh"]


def test_locks_are_spread_over_folders_so_that_each_is_short(store: Store) -> None:
    folders = {os.path.dirname(store.lock(f"nvcr.io_nvidia_tool-{number}.sqsh")) for number in range(5000)}
    assert len(folders) == 256
    assert {os.path.dirname(folder) for folder in folders} == {store.locks}


def test_a_second_name_of_the_file_keeps_its_bytes(store: Store) -> None:
    os.link(store.path(FILE), store.path("twin.sqsh"))
    assert remove_image(FILE, store, ()).freed_bytes == 0


def test_of_a_link_the_link_alone_goes(site, store: Store) -> None:
    (site.folder / "stable.sqsh").symlink_to(FILE)
    remove_image("stable.sqsh", store, ())
    assert os.path.exists(store.path(FILE))
    assert not os.path.lexists(store.path("stable.sqsh"))
    assert read_record(store, FILE) == RECORD


def test_an_image_that_a_job_has_started_from_meanwhile_stays(store: Store) -> None:
    Path(store.uses, FILE, "8").touch()
    with pytest.raises(ImageInUse, match="job 8"):
        remove_image(FILE, store, frozenset({"7"}))
    assert read_record(store, FILE) == RECORD
    remove_image(FILE, store, None)
    assert not os.path.exists(store.path(FILE))


def test_an_image_that_is_being_imported_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slurm_fsx_tools.containers.care.removing.LOCK_TIMEOUT_S", 0.1)
    make_lock_folder(store, FILE)
    lock = try_hold(store.lock(FILE))
    assert lock is not None
    with lock, pytest.raises(LockTimeout, match="still held"):
        remove_image(FILE, store, ())
    assert os.path.exists(store.path(FILE))


def test_aliases_links_and_running_jobs_hold_an_image(site, store: Store) -> None:
    check_removable(FILE, site.catalogue(), site.config, UNUSED, Activity(()))
    with pytest.raises(ImageInUse, match="in use by job 7 and 1 others"):
        check_removable(FILE, site.catalogue(), site.config, Use(frozenset({"5", "7", "8"}), 0), Activity({7, 8, 9}))
    with pytest.raises(ImageInUse, match="in use by job 7 of cluster west"):
        check_removable(FILE, site.catalogue(), site.config, Use(frozenset({"west.7"}), 0), Activity((), "east"))
    (site.folder / "stable.sqsh").symlink_to(FILE)
    with pytest.raises(ImageInUse, match=r"the link stable\.sqsh leads to"):
        check_removable(FILE, site.catalogue(), site.config, UNUSED, Activity(()))
    site.values["containers.aliases"] = {"best": "nvcr.io/nvidia/tool:24.01-py3"}
    with pytest.raises(ImageInUse, match="the alias 'best' means"):
        check_removable(FILE, site.catalogue(), site.config, UNUSED, Activity(()))


def test_a_folder_with_an_images_name_stays(site, store: Store) -> None:
    (site.folder / "folder.sqsh").mkdir()
    with pytest.raises(UntrustedFile, match="neither a file nor a link"):
        remove_image("folder.sqsh", store, ())


@pytest.mark.parametrize("name", ["records", "uses"])
def test_a_planted_link_makes_nothing_else_go(store: Store, tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    (victim / FILE).mkdir(parents=True)
    (victim / f"{FILE}.json").touch()
    (victim / FILE / "7").touch()
    path = Path(getattr(store, name))
    path.rename(tmp_path / "moved")
    path.symlink_to(victim)
    with pytest.raises(UntrustedFile, match="no folder"):
        remove_image(FILE, store, frozenset())
    assert os.path.exists(store.path(FILE))
    assert sorted(path.name for path in victim.rglob("*")) == ["7", FILE, f"{FILE}.json"]


def test_the_use_of_images_that_are_left_stays(store: Store) -> None:
    os.makedirs(f"{store.uses}/other-1.sqsh")
    remove_image(FILE, store, ())
    assert list(read_uses(store.uses)) == ["other-1.sqsh"]
