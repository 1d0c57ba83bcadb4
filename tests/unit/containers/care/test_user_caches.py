from __future__ import annotations

import os
from pathlib import Path

import pytest

from slurm_fsx_tools.containers.care.user_caches import CachedImage, cached_images, clean_cache
from slurm_fsx_tools.containers.store import Store
from slurm_fsx_tools.errors import SlurmFsxError, UntrustedFile
from slurm_fsx_tools.shared_lock import try_hold

USED_S = 1_700_000_000.0
UID = os.geteuid()
KEPT_S = 24 * 3600
FILE = "sha256-1.sqsh"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path))
    Path(store.caches).mkdir(parents=True)
    return store


def add(store: Store, uid: int = UID, file: str = FILE, used_s: float = USED_S) -> Path:
    path = Path(store.caches, str(uid), file)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(b"hsqs")
    os.utime(path, (used_s, used_s))
    if uid != UID:
        os.chown(path, uid, uid)
        os.chown(path.parent, uid, uid)
    return path


def remove_cached(store: Store, image: CachedImage) -> bool:
    return clean_cache(store, image.uid, [image], USED_S)[0] == [image]


def test_images_are_listed_by_their_last_use(store: Store) -> None:
    add(store, file="b.sqsh", used_s=USED_S + 1)
    path = add(store)
    os.utime(path, (USED_S, USED_S - 50))  # read after it was written
    add(store, file=".staged.sqsh")
    add(store, file="note.txt")
    Path(store.caches, "lost+found").mkdir()
    assert cached_images(store) == [
        CachedImage(UID, FILE, 4, USED_S),
        CachedImage(UID, "b.sqsh", 4, USED_S + 1),
    ]


def test_without_caches_there_is_nothing(tmp_path: Path) -> None:
    assert cached_images(Store(str(tmp_path))) == []


def test_an_image_goes_with_its_record_and_what_is_known_of_its_import(store: Store) -> None:
    path = add(store)
    record = Path(store.cache(UID).records, f"{FILE}.json")
    state = Path(store.cache(UID).imports, f"{FILE}.json")
    for path_of in (record, state):
        path_of.parent.mkdir(parents=True)
        path_of.touch()
    [image] = cached_images(store)
    assert remove_cached(store, image)
    assert not path.exists()
    assert not record.exists()
    assert not state.exists()


def test_an_image_that_was_used_since_it_was_listed_stays(store: Store) -> None:
    path = add(store)
    [image] = cached_images(store)
    os.utime(path, (USED_S + 5, USED_S))
    assert not remove_cached(store, image)
    assert path.exists()


def test_an_image_that_is_being_imported_stays(store: Store) -> None:
    path = add(store)
    [image] = cached_images(store)
    lock = Path(store.cache(UID).lock(FILE))
    lock.parent.mkdir(parents=True)
    held = try_hold(str(lock))
    assert held is not None
    with held:
        assert not remove_cached(store, image)
    assert path.exists()
    assert remove_cached(store, image)


def test_layers_go_a_day_after_their_last_use(store: Store, tmp_path: Path) -> None:
    add(store)
    layers = Path(store.cache(UID).layers, "sha256")
    layers.mkdir(parents=True)
    (tmp_path / "victim").mkdir()
    (layers.parent / "link").symlink_to(tmp_path / "victim")
    for folder, name, age_s in (
        (layers, "old", KEPT_S + 1),
        (layers, "new", 5),
        (tmp_path / "victim", "x", KEPT_S * 9),
    ):
        (folder / name).write_bytes(b"1234")
        os.utime(folder / name, (USED_S - age_s,) * 2)
    assert clean_cache(store, UID, [], USED_S) == ([], 4)
    assert os.listdir(layers) == ["new"]
    assert (tmp_path / "victim/x").exists()


@pytest.mark.usefixtures("needs_root")
class TestAsRoot:
    """Users own their caches, and root cleans them."""

    def test_every_users_images_are_listed(self, store: Store) -> None:
        add(store, uid=2001)
        add(store, uid=2002)
        assert [image.uid for image in cached_images(store)] == [2001, 2002]

    def test_files_that_are_not_the_users_own_and_links_are_left_alone(self, store: Store, tmp_path: Path) -> None:
        folder = add(store, uid=2001).parent
        (folder / "roots.sqsh").touch()
        victim = tmp_path / "victim.sqsh"
        victim.write_bytes(b"hsqs")
        os.chown(victim, 2001, 2001)
        (folder / "link.sqsh").symlink_to(victim)
        (folder / "folder.sqsh").mkdir()
        assert [image.file for image in cached_images(store)] == [FILE]
        assert not remove_cached(store, CachedImage(2001, "link.sqsh", 4, 0))
        assert victim.exists()
        assert (folder / "link.sqsh").is_symlink()

    def test_a_cache_that_is_a_link_or_anothers_is_left_alone(self, store: Store, tmp_path: Path) -> None:
        path = add(store, uid=2001)
        Path(store.caches, "2002").symlink_to(path.parent)
        path.parent.rename(Path(store.caches, "2003"))
        assert cached_images(store) == []
        assert (tmp_path / ".slurm-fsx/caches/2003" / FILE).exists()

    def test_a_cache_that_is_swapped_for_a_link_leads_nowhere(self, store: Store, tmp_path: Path) -> None:
        path = add(store, uid=2001)
        [image] = cached_images(store)
        path.parent.rename(tmp_path / "victim")
        Path(store.caches, "2001").symlink_to(tmp_path / "victim")
        with pytest.raises(OSError, match="2001"):
            remove_cached(store, image)
        assert (tmp_path / "victim" / FILE).exists()

    def test_a_planted_folder_of_records_leads_nowhere(self, store: Store, tmp_path: Path) -> None:
        folder = add(store, uid=2001).parent
        victim = tmp_path / "victim"
        victim.mkdir()
        (victim / f"{FILE}.json").touch()
        os.chown(victim, 2001, 2001)
        state = folder / ".slurm-fsx"
        state.mkdir()
        (state / "records").symlink_to(victim)
        os.chown(state, 2001, 2001)
        [image] = cached_images(store)
        assert remove_cached(store, image)
        assert (victim / f"{FILE}.json").exists()

    def test_what_is_removed_and_the_lock_for_it_are_the_users(self, store: Store) -> None:
        path = add(store, uid=2001)
        [image] = cached_images(store)
        assert remove_cached(store, image)
        assert not path.exists()
        assert {each.lstat().st_uid for each in path.parent.rglob("*")} == {2001}

    def test_a_link_in_place_of_the_locks_leads_no_further_than_its_user(self, store: Store, tmp_path: Path) -> None:
        folder = add(store, uid=2001).parent
        (tmp_path / "victim").mkdir()
        (folder / ".slurm-fsx").mkdir()
        (folder / ".slurm-fsx/locks").symlink_to(tmp_path / "victim")
        os.chown(folder / ".slurm-fsx", 2001, 2001)
        [image] = cached_images(store)
        with pytest.raises(SlurmFsxError, match="locks is no folder"):
            remove_cached(store, image)
        assert os.listdir(tmp_path / "victim") == []

    def test_caches_that_others_can_write_to_are_not_touched(self, store: Store) -> None:
        add(store, uid=2001)
        os.chmod(store.caches, 0o777)
        with pytest.raises(UntrustedFile, match="can be written by others"):
            cached_images(store)
