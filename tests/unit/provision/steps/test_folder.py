"""Folders and links: made with owner and mode, and removed only as far as they are ours and empty."""

from __future__ import annotations

import os

import pytest

from slurm_fsx_tools.provision.steps import Folder, Link

from .conftest import Machine, said

OPEN = Folder("/fsx/datasets", 0o1777)
TREE = (Folder("/fsx"), OPEN)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_folder_has_the_mode_of_its_step_whatever_the_umask(machine: Machine, umask: int) -> None:
    before = os.umask(umask)
    try:
        machine.apply(*TREE)
    finally:
        os.umask(before)
    assert machine.path("/fsx/datasets").stat().st_mode & 0o7777 == 0o1777
    assert not machine.plan(*TREE)


def test_undo_removes_empty_folders_and_never_what_users_have_in_them(machine: Machine) -> None:
    machine.apply(*TREE, Folder("/fsx/results", 0o1777))
    machine.write("/fsx/datasets/precious", "data")
    assert said(machine.undo()) == [
        ("removed", "folder /fsx/results"),
        ("kept", "folder /fsx/datasets"),
        ("kept", "folder /fsx"),
    ]
    assert machine.read("/fsx/datasets/precious") == "data"


def test_a_folder_that_was_there_before_is_kept(machine: Machine) -> None:
    machine.path("/fsx").mkdir(mode=0o755)
    machine.apply(*TREE)
    machine.undo()
    assert os.listdir(machine.path("/fsx")) == []


def test_another_mode_is_kept_and_reported_unless_forced_and_undo_brings_it_back(machine: Machine) -> None:
    machine.apply(Folder("/fsx"))
    machine.path("/fsx/datasets").mkdir()
    machine.path("/fsx/datasets").chmod(0o775)
    (change,) = machine.plan(*TREE)
    assert change.conflict
    assert "0775" in change.summary
    assert said(machine.apply(*TREE)) == [("kept", OPEN.name)]
    assert said(machine.apply(*TREE, force=True)) == [("changed", OPEN.name)]
    assert machine.path("/fsx/datasets").stat().st_mode & 0o7777 == 0o1777
    machine.undo()
    assert not machine.path("/fsx").exists() or machine.path("/fsx/datasets").stat().st_mode & 0o7777 == 0o775


def test_a_newer_release_changes_the_mode_of_its_own_folder(machine: Machine) -> None:
    machine.apply(Folder("/etc/ours", 0o777))
    assert said(machine.apply(Folder("/etc/ours", 0o755))) == [("changed", "folder /etc/ours")]
    assert machine.path("/etc/ours").stat().st_mode & 0o777 == 0o755


def test_a_link_where_the_folder_should_be_is_kept(machine: Machine) -> None:
    machine.apply(Folder("/fsx"))
    machine.path("/fsx/datasets").symlink_to("/elsewhere")
    assert said(machine.apply(*TREE)) == [("kept", OPEN.name)]
    assert said(machine.apply(*TREE, force=True)) == [("failed", OPEN.name)]


def test_a_link_is_made_turned_and_taken_back(machine: Machine) -> None:
    before = machine.tree()
    machine.apply(Link("/etc/ours", "/opt/one"))
    assert os.readlink(machine.path("/etc/ours")) == "/opt/one"
    assert said(machine.apply(Link("/etc/ours", "/opt/two"))) == [("changed", "link /etc/ours")]
    assert os.readlink(machine.path("/etc/ours")) == "/opt/two"
    machine.undo()
    assert machine.tree() == before


def test_a_link_of_somebody_else_is_kept_and_comes_back_after_force(machine: Machine) -> None:
    machine.path("/etc/ours").symlink_to("/opt/theirs")
    before = machine.tree()
    assert said(machine.apply(Link("/etc/ours", "/opt/one"))) == [("kept", "link /etc/ours")]
    machine.apply(Link("/etc/ours", "/opt/one"), force=True)
    assert os.readlink(machine.path("/etc/ours")) == "/opt/one"
    machine.undo()
    assert machine.tree() == before
