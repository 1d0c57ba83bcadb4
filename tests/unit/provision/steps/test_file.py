"""Files of ours: written whole, kept where somebody else has written or changed them."""

from __future__ import annotations

import pytest

from slurm_fsx_tools.provision.steps import File, Record, apply, undo

from .conftest import Machine, said

PATH = "/etc/slurm/prolog.d/50-ours"
FILE = File(PATH, "# ours\none\n", 0o755)
NEWER = File(PATH, "# ours\ntwo\n", 0o755)
NAME = f"file {PATH}"


def test_a_file_is_planned_with_a_diff_and_written_with_its_mode(machine: Machine) -> None:
    (change,) = machine.plan(FILE)
    assert "+one" in change.diff.splitlines()
    assert not machine.path(PATH).exists()
    assert said(machine.apply(FILE)) == [("changed", NAME)]
    assert machine.read(PATH) == "# ours\none\n"
    assert machine.path(PATH).stat().st_mode & 0o7777 == 0o755


def test_a_second_time_there_is_nothing_to_do(machine: Machine) -> None:
    machine.apply(FILE)
    before = machine.tree()
    assert not machine.plan(FILE)
    assert said(machine.apply(FILE)) == []
    assert machine.tree() == before


def test_a_newer_release_replaces_its_own_file_without_a_backup(machine: Machine) -> None:
    machine.apply(FILE)
    assert said(machine.apply(NEWER)) == [("changed", NAME)]
    assert machine.read(PATH) == "# ours\ntwo\n"
    assert [path.name for path in machine.path("/etc/slurm").iterdir()] == ["prolog.d"]


def test_a_file_that_somebody_else_wrote_is_kept_and_reported_with_the_difference(machine: Machine) -> None:
    machine.write(PATH, "theirs\n")
    (change,) = machine.plan(FILE)
    assert change.conflict
    assert "not written by us" in change.summary
    assert {"-theirs", "+one"} <= set(change.diff.splitlines())
    assert said(machine.apply(FILE)) == [("kept", NAME)]
    assert machine.read(PATH) == "theirs\n"


@pytest.mark.parametrize("what", ["content", "mode"])
def test_a_file_that_was_changed_by_hand_is_kept(machine: Machine, what: str) -> None:
    machine.apply(FILE)
    if what == "content":
        machine.write(PATH, "# ours\none, and a half\n", 0o755)
    else:
        machine.path(PATH).chmod(0o700)
    before = machine.tree()
    (change,) = machine.plan(NEWER)
    assert "changed by hand" in change.summary
    assert said(machine.apply(NEWER)) == [("kept", NAME)]
    assert machine.tree() == before


def test_force_replaces_it_after_a_backup_outside_the_folder_that_is_read_by_pattern(machine: Machine) -> None:
    machine.write(PATH, "theirs\n", 0o700)
    assert said(machine.apply(FILE, force=True)) == [("changed", NAME)]
    assert machine.read(PATH) == "# ours\none\n"
    assert [path.name for path in machine.path("/etc/slurm/prolog.d").iterdir()] == ["50-ours"]
    backup = machine.path("/etc/slurm/50-ours.slurm-fsx-backup-1")
    assert backup.read_text() == "theirs\n"
    assert backup.stat().st_mode & 0o777 == 0o700


def test_undo_brings_back_what_force_replaced(machine: Machine) -> None:
    machine.write(PATH, "theirs\n", 0o700)
    before = machine.tree()
    machine.apply(FILE, force=True)
    machine.apply(NEWER)
    assert said(machine.undo()) == [("removed", NAME)]
    assert machine.tree() == before


def test_a_backup_never_takes_the_name_of_an_older_one(machine: Machine) -> None:
    machine.write("/etc/conf", "first\n")
    machine.write("/etc/conf.slurm-fsx-backup-1", "somebody's\n")
    machine.apply(File("/etc/conf", "ours\n"), force=True)
    assert machine.read("/etc/conf.slurm-fsx-backup-1") == "somebody's\n"
    assert machine.read("/etc/conf.slurm-fsx-backup-2") == "first\n"


def test_undo_removes_the_file_and_nothing_else(machine: Machine) -> None:
    before = machine.tree()
    machine.apply(FILE)
    assert said(machine.undo()) == [("removed", NAME)]
    assert machine.tree() == before
    assert not machine.path("/var/lib/slurm-fsx").exists()


def test_undo_keeps_what_was_changed_by_hand_and_says_so(machine: Machine) -> None:
    machine.apply(FILE)
    machine.write(PATH, "by hand\n", 0o755)
    (event,) = machine.undo()
    assert event.outcome == "kept"
    assert PATH in event.text
    assert machine.read(PATH) == "by hand\n"


def test_a_file_that_was_right_before_is_not_ours_to_remove(machine: Machine) -> None:
    machine.write(PATH, "# ours\none\n", 0o755)
    assert said(machine.apply(FILE)) == []
    assert said(machine.undo()) == []
    assert machine.path(PATH).exists()


def test_a_file_of_an_older_release_that_has_no_record_is_known_by_its_words(machine: Machine) -> None:
    machine.write(PATH, "#!/bin/sh\n# Slurm prolog of slurm-fsx-tools\n", 0o755)
    file = File(PATH, "# ours\none\n", 0o755, recognises="of slurm-fsx-tools")
    before = machine.tree()
    assert said(machine.apply(file)) == [("changed", NAME)]
    assert machine.read(PATH) == "# ours\none\n"
    machine.undo()
    assert machine.tree() == before


def test_a_link_is_kept_unless_forced_and_what_it_leads_to_never_changes(machine: Machine) -> None:
    machine.write("/etc/theirs", "theirs\n")
    machine.path(PATH).symlink_to("../../theirs")
    before = machine.tree()
    assert said(machine.apply(FILE)) == [("kept", NAME)]
    assert machine.tree() == before
    assert said(machine.apply(FILE, force=True)) == [("changed", NAME)]
    assert machine.read("/etc/theirs") == "theirs\n"
    machine.undo()
    assert machine.tree() == before


def test_a_folder_with_the_files_name_is_an_error_even_with_force(machine: Machine) -> None:
    machine.path(PATH).mkdir()
    assert said(machine.apply(FILE, force=True)) == [("failed", NAME)]


def test_a_folder_that_everybody_can_write_to_gets_no_file_of_ours(machine: Machine) -> None:
    machine.path("/etc/slurm").chmod(0o777)
    (event,) = machine.apply(FILE)
    assert event.outcome == "failed"
    assert "can be written by everybody" in event.text


def test_files_belong_to_whom_the_step_names(machine: Machine, needs_root: None) -> None:
    machine.write("/etc/passwd", "prometheus:x:314:315::/:/bin/false\n")
    machine.write("/etc/group", "prometheus:x:315:\n")
    machine.apply(File("/etc/conf", "x\n", owner="prometheus", group="prometheus"))
    status = machine.path("/etc/conf").stat()
    assert (status.st_uid, status.st_gid) == (314, 315)


def test_an_owner_who_does_not_exist_is_an_error_that_names_him(machine: Machine, needs_root: None) -> None:
    (event,) = machine.apply(File("/etc/conf", "x\n", owner="prometheus"))
    assert event.outcome == "failed"
    assert "no user prometheus" in event.text
    assert not machine.path("/etc/conf").exists()


def test_a_start_is_written_once_and_then_somebody_elses_but_for_undo_while_nobody_has_touched_it(
    machine: Machine,
) -> None:
    before = machine.tree()
    machine.apply(File("/etc/list", "start\n", is_start=True))
    assert said(machine.apply(File("/etc/list", "newer start\n", is_start=True))) == []
    machine.undo()
    assert machine.tree() == before
    machine.apply(File("/etc/list", "start\n", is_start=True))
    machine.write("/etc/list", "mine\n")
    assert said(machine.apply(File("/etc/list", "start\n", is_start=True))) == []
    assert said(machine.undo()) == [("kept", "file /etc/list")]


def test_a_file_that_two_records_share_is_ours_in_both_and_gone_after_both(machine: Machine) -> None:
    before = machine.tree()

    def go(what: str, content: str) -> list[tuple[str, str]]:
        with Record.open(what, str(machine.root)) as record:
            return said(apply([File("/etc/shared", content)], record))

    assert go("hooks", "one\n") == [("changed", "file /etc/shared")]
    assert go("node", "one\n") == []
    assert go("node", "two\n") == [("changed", "file /etc/shared")]
    assert go("hooks", "two\n") == []
    assert go("hooks", "three\n") == [("changed", "file /etc/shared")]
    assert go("node", "four\n") == [("changed", "file /etc/shared")]
    for what in ("node", "hooks"):
        assert machine.read("/etc/shared") == "four\n"
        with Record.open(what, str(machine.root)) as record:
            assert undo(record).of("kept") == []
    assert machine.tree() == before


def test_a_file_that_something_else_has_brought_up_to_date_is_still_ours(machine: Machine) -> None:
    before = machine.tree()
    machine.apply(File("/etc/motd", "one\n"))
    machine.write("/etc/motd", "two\n")
    machine.apply(File("/etc/motd", "two\n"))
    assert said(machine.apply(File("/etc/motd", "two\n"))) == []
    assert machine.undo().of("kept") == []
    assert machine.tree() == before


def test_ours_that_was_changed_by_hand_is_not_taken_for_an_older_release_s(machine: Machine) -> None:
    file = File("/etc/unit", "# of ours\none\n", recognises="of ours")
    machine.write("/etc/unit", "# of ours\nzero\n")
    assert said(machine.apply(file)) == [("changed", "file /etc/unit")]
    machine.write("/etc/unit", "# of ours\nby hand\n")
    assert said(machine.apply(file)) == [("kept", "file /etc/unit")]
    assert machine.read("/etc/unit") == "# of ours\nby hand\n"
