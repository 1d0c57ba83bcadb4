"""Lines of ours in files of others: where they must stand, and nothing else touched."""

from __future__ import annotations

import pytest

from slurm_fsx_tools.provision.steps import Line

from .conftest import Machine, said

PATH = "/etc/slurm/plugstack.conf"
PYXIS = r"spank_pyxis\.so"
BEFORE = Line(PATH, "optional ours.so line=before", before=PYXIS)
AFTER = Line(PATH, "optional ours.so line=after", after=PYXIS)
THEIRS = "# site\nrequired other.so\nrequired spank_pyxis.so\nrequired last.so\n"


@pytest.fixture
def plugstack(machine: Machine) -> Machine:
    machine.write(PATH, THEIRS, 0o640)
    return machine


def test_lines_are_put_around_the_one_that_they_go_with(plugstack: Machine) -> None:
    plugstack.apply(BEFORE, AFTER)
    assert plugstack.read(PATH).splitlines() == [
        "# site",
        "required other.so",
        "optional ours.so line=before",
        "required spank_pyxis.so",
        "optional ours.so line=after",
        "required last.so",
    ]
    assert plugstack.path(PATH).stat().st_mode & 0o777 == 0o640
    assert not plugstack.plan(BEFORE, AFTER)


@pytest.mark.parametrize("text", [THEIRS, THEIRS[:-1], "", "required spank_pyxis.so\n\n\x0c\n\r\n\xe9"])
def test_undo_leaves_every_other_byte_as_it_was(machine: Machine, text: str) -> None:
    machine.path(PATH).write_bytes(text.encode("latin-1"))
    machine.apply(BEFORE, AFTER)
    assert {event.outcome for event in machine.undo()} == {"removed"}
    assert machine.path(PATH).read_bytes() == text.encode("latin-1")


def test_undo_keeps_what_others_have_added_since(plugstack: Machine) -> None:
    plugstack.apply(BEFORE, AFTER)
    plugstack.write(PATH, plugstack.read(PATH) + "required new.so\n", 0o640)
    plugstack.undo()
    assert plugstack.read(PATH) == THEIRS + "required new.so\n"


def test_a_line_that_was_taken_out_by_hand_stays_out_until_forced(plugstack: Machine) -> None:
    plugstack.apply(BEFORE)
    plugstack.write(PATH, THEIRS, 0o640)
    (change,) = plugstack.plan(BEFORE)
    assert change.conflict
    assert said(plugstack.apply(BEFORE)) == [("kept", BEFORE.name)]
    assert plugstack.read(PATH) == THEIRS
    plugstack.apply(BEFORE, force=True)
    assert BEFORE.line in plugstack.read(PATH)


def test_a_line_whose_text_changes_is_exchanged_in_its_place(plugstack: Machine) -> None:
    plugstack.apply(Line(PATH, "ours v1", before=PYXIS, key="ours"))
    plugstack.apply(Line(PATH, "ours v2", before=PYXIS, key="ours"))
    assert plugstack.read(PATH) == THEIRS.replace("required spank", "ours v2\nrequired spank")
    plugstack.undo()
    assert plugstack.read(PATH) == THEIRS


def test_a_line_takes_the_place_of_the_one_it_replaces_and_undo_brings_that_back(machine: Machine) -> None:
    machine.write("/etc/slurm/slurm.conf", "A=1\nprolog=/old\nB=2\n")
    step = Line("/etc/slurm/slurm.conf", "Prolog=/new/*", replaces=r"(?i)^\s*prolog\s*=", backup=True)
    machine.apply(step)
    assert machine.read("/etc/slurm/slurm.conf") == "A=1\nProlog=/new/*\nB=2\n"
    assert machine.read("/etc/slurm/slurm.conf.slurm-fsx-backup-1") == "A=1\nprolog=/old\nB=2\n"
    machine.undo()
    assert machine.read("/etc/slurm/slurm.conf") == "A=1\nprolog=/old\nB=2\n"
    assert not machine.path("/etc/slurm/slurm.conf.slurm-fsx-backup-1").exists()


def test_a_line_in_the_wrong_place_is_moved(machine: Machine) -> None:
    machine.write(PATH, "required spank_pyxis.so\noptional ours.so line=before\n")
    machine.apply(BEFORE)
    assert machine.read(PATH) == "optional ours.so line=before\nrequired spank_pyxis.so\n"


def test_a_file_that_is_missing_is_made_and_goes_again(machine: Machine) -> None:
    before = machine.tree()
    machine.apply(BEFORE)
    assert machine.read(PATH) == "optional ours.so line=before\n"
    machine.undo()
    assert machine.tree() == before


def test_a_line_behind_a_link_changes_the_file_and_leaves_the_link(machine: Machine) -> None:
    machine.write("/etc/real.conf", "required spank_pyxis.so\n")
    machine.path(PATH).symlink_to("../real.conf")
    machine.apply(BEFORE)
    assert machine.path(PATH).is_symlink()
    assert machine.read("/etc/real.conf") == "optional ours.so line=before\nrequired spank_pyxis.so\n"
