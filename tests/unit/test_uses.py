from __future__ import annotations

import os
from pathlib import Path

import pytest

from slurm_fsx_tools.containers.store import Store
from slurm_fsx_tools.errors import UntrustedFile
from slurm_fsx_tools.uses import ELSEWHERE_S, UNUSED, Activity, Use, forget, forget_ended, read_use, read_uses

USED_S = 1_700_000_000.0
NONE = Activity(())


def is_there(name: str) -> bool:
    return True


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path))
    Path(store.uses).mkdir(parents=True)
    return store


def mark(store: Store, file: str, *names: str) -> Path:
    """Leave markers, as root does at step start."""
    folder = Path(store.uses, file)
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    os.utime(folder, (USED_S, USED_S))
    return folder


def test_a_use_is_told_by_its_jobs_and_the_last_start(store: Store) -> None:
    mark(store, "a.sqsh", "7", "12")
    mark(store, "b.sqsh")
    assert read_uses(store.uses) == {"a.sqsh": Use(frozenset({"7", "12"}), USED_S), "b.sqsh": Use(frozenset(), USED_S)}
    assert read_use(store.uses, "a.sqsh").jobs == {"7", "12"}
    assert read_use(store.uses, "none.sqsh") == UNUSED


def test_names_that_are_no_job_are_no_use(store: Store) -> None:
    mark(store, "a.sqsh", "7", "x", "-1", "1.5.", "\u0661", " 8", "a b.3", ".4", "east.", "a.b.5")
    assert read_use(store.uses, "a.sqsh").jobs == {"7"}


def test_where_nothing_was_ever_used_there_is_no_use(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    assert read_uses(store.uses) == {}
    assert read_use(store.uses, "a.sqsh") == UNUSED
    assert forget_ended(store.uses, {}, NONE, is_there) == 0
    forget(store.uses, "a.sqsh")


def test_markers_of_ended_jobs_go_and_the_time_of_the_last_use_stays(store: Store) -> None:
    folder = mark(store, "a.sqsh", "7", "8", "note")
    uses = read_uses(store.uses)
    assert forget_ended(store.uses, uses, Activity({8}), is_there) == 1
    assert sorted(os.listdir(folder)) == ["8", "note"]
    assert read_use(store.uses, "a.sqsh") == Use(frozenset({"8"}), USED_S)


def test_a_job_that_starts_while_slurm_is_asked_keeps_its_marker(store: Store) -> None:
    folder = mark(store, "a.sqsh", "7")
    uses = read_uses(store.uses)
    (folder / "9").touch()
    forget_ended(store.uses, uses, NONE, is_there)
    assert os.listdir(folder) == ["9"]


def test_what_is_known_of_an_images_use_goes_with_it(store: Store) -> None:
    mark(store, "a.sqsh", "7")
    mark(store, "b.sqsh", "7")
    forget(store.uses, "a.sqsh")
    assert os.listdir(store.uses) == ["b.sqsh"]


def test_a_planted_link_leads_to_no_other_folder(store: Store, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "7").touch()
    Path(store.uses, "a.sqsh").symlink_to(victim)
    assert read_uses(store.uses) == {}
    with pytest.raises(UntrustedFile, match="no folder"):
        forget_ended(store.uses, {"a.sqsh": Use(frozenset({"7"}), 0)}, NONE, is_there)
    with pytest.raises(UntrustedFile, match="no folder"):
        forget(store.uses, "a.sqsh")
    assert os.listdir(victim) == ["7"]


def test_a_folder_of_uses_that_others_can_write_to_is_not_believed(store: Store) -> None:
    mark(store, "a.sqsh", "7")
    os.chmod(store.uses, 0o777)
    with pytest.raises(UntrustedFile, match="can be written by others"):
        read_uses(store.uses)
    with pytest.raises(UntrustedFile, match="can be written by others"):
        read_use(store.uses, "a.sqsh")
    with pytest.raises(UntrustedFile, match="can be written by others"):
        forget_ended(store.uses, {"a.sqsh": Use(frozenset({"7"}), 0)}, NONE, is_there)


@pytest.mark.parametrize("name", ["state", "uses"])
def test_a_link_in_place_of_a_folder_above_is_not_followed(store: Store, tmp_path: Path, name: str) -> None:
    mark(store, "a.sqsh", "7")
    path = Path(getattr(store, name))
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    with pytest.raises(UntrustedFile, match="no folder"):
        read_uses(store.uses)
    with pytest.raises(UntrustedFile, match="no folder"):
        forget_ended(store.uses, {"a.sqsh": Use(frozenset({"7"}), 0)}, NONE, is_there)


def test_a_job_of_another_cluster_counts_for_its_time_and_one_of_our_own_by_slurm(store: Store) -> None:
    folder = mark(store, "a.sqsh", "7", "8", "east.7", "east.9", "west.7", "west.8")
    for name in ("west.8", "east.7"):
        os.utime(folder / name, (USED_S - ELSEWHERE_S - 1,) * 2)
    os.utime(folder / "west.7", (USED_S - ELSEWHERE_S + 1,) * 2)
    uses = read_uses(store.uses, USED_S)
    east = Activity({7}, "east")
    assert east.running(uses["a.sqsh"]) == ["7", "east.7", "west.7"]
    assert [east.words(job) for job in east.running(uses["a.sqsh"])] == ["7", "7", "7 of cluster west"]
    assert forget_ended(store.uses, uses, east, is_there) == 3
    assert sorted(os.listdir(folder)) == ["7", "east.7", "west.7"]
    # Where nobody knows how this cluster is called, any that has a name is another.
    assert Activity({8}).running(read_uses(store.uses, USED_S)["a.sqsh"]) == ["west.7"]


def test_a_folder_of_a_thing_that_is_gone_goes_once_no_job_is_in_it(store: Store) -> None:
    mark(store, "gone.sqsh")
    mark(store, "used.sqsh", "7", "8")
    mark(store, "here.sqsh")
    forget_ended(store.uses, read_uses(store.uses), Activity({8}), lambda name: name == "here.sqsh")
    assert sorted(os.listdir(store.uses)) == ["here.sqsh", "used.sqsh"]
    forget_ended(store.uses, read_uses(store.uses), NONE, lambda name: name == "here.sqsh")
    assert os.listdir(store.uses) == ["here.sqsh"]
