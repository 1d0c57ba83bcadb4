from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from slurm_fsx_tools.jobenv import apply_operations
from slurm_fsx_tools.nccl.conditions import Facts, When, parse_version
from slurm_fsx_tools.nccl.environment import facts_of
from slurm_fsx_tools.nccl.installation import current_installation

if TYPE_CHECKING:
    from .conftest import Site

OLD = "2.27.7-1_ofi-1.16.3-aws"
NEW = "2.28.7-1_ofi-1.17.2-aws"


@pytest.fixture
def ours(site: Site) -> Site:
    """A site with two versions of ours, the old one in use, and the script that we put beside them."""
    site.install_version(OLD, ofi="1.16.3-aws")
    site.install_version(NEW, ofi="1.17.2-aws", libfabric="2.1.0")
    site.use_version(OLD)
    return site


def library(site: Site, nccl: str = "", job_id: str = "7") -> str:
    return apply_operations(site.start(nccl, job_id), {})["LD_LIBRARY_PATH"].split(":")[0]


def test_a_job_gets_the_versions_own_folder_so_that_a_later_switch_changes_nothing(ours: Site) -> None:
    first = ours.start()
    task = apply_operations(first, {})
    assert task["LD_LIBRARY_PATH"] == f"{ours.nccl}/versions/{OLD}/lib:/usr/local/lib"
    assert task["NCCL_VERSION"] == "2.27.7-1"
    assert "current" not in str(first)
    ours.use_version(NEW)
    assert library(ours) == f"{ours.nccl}/versions/{NEW}/lib"
    assert ours.times_sourced == 0


def test_a_version_is_used_by_each_job_that_gets_it(ours: Site) -> None:
    ours.start(job_id="7")
    ours.start(job_id="8")
    ours.use_version(NEW)
    ours.start(job_id="9")
    ours.start(nccl="off", job_id="10")
    ours.start(nccl=OLD, job_id="11")
    assert ours.users_of(OLD) == ["11", "7", "8"]
    assert ours.users_of(NEW) == ["9"]
    mark = ours.nccl / ".uses" / OLD / "7"
    assert (mark.stat().st_size, mark.stat().st_mode & 0o777) == (0, 0o644)


def test_a_look_without_a_job_leaves_no_mark(ours: Site) -> None:
    assert current_installation(ours.config, ours.shared_fs) is not None
    assert not (ours.nccl / ".uses").exists()


def test_a_job_can_ask_for_a_version_and_the_node_still_knows_the_current_one(ours: Site) -> None:
    assert library(ours, nccl=NEW) == f"{ours.nccl}/versions/{NEW}/lib"
    assert library(ours) == f"{ours.nccl}/versions/{OLD}/lib"
    assert sorted(os.listdir(ours.run_dir)) == [f"nccl-{NEW}.json", "nccl.json"]


@pytest.mark.parametrize("wanted", ["2.99", "fsat", "../../etc", "a b\n", "x" * 200, "-", ".", ".."])
def test_what_is_neither_profile_nor_version_is_the_default_with_a_note(ours: Site, wanted: str) -> None:
    env = ours.start(wanted)
    assert apply_operations(env, {}) == apply_operations(ours.start(), {})
    [note] = [note for note in env.notes if "--nccl" in note]
    assert "the job gets the default" in note
    assert "off, documented, auto, minimal" in note
    assert note.isprintable()
    assert os.listdir(ours.nccl / ".uses") == [OLD]


def test_a_mark_of_a_version_that_has_gone_is_taken_back(ours: Site) -> None:
    ours.start(nccl=NEW, job_id="1")
    (ours.nccl / "versions" / NEW).rename(ours.nccl / "gone")
    assert library(ours, nccl=NEW, job_id="2") == f"{ours.nccl}/versions/{OLD}/lib"
    assert ours.users_of(NEW) == ["1"]


def test_an_admins_list_of_marks_that_cannot_be_written_costs_the_job_nothing(ours: Site) -> None:
    (ours.nccl / ".uses").write_text("in the way")
    env = ours.start()
    assert "LD_LIBRARY_PATH" in apply_operations(env, {})
    assert [note for note in env.notes if "are not marked" in note]
    assert not [note for note in ours.start().notes if "are not marked" in note]


def test_a_version_that_was_replaced_is_looked_at_again(ours: Site) -> None:
    assert apply_operations(ours.start(), {})["NCCL_VERSION"] == "2.27.7-1"
    manifest = ours.nccl / "versions" / OLD / "manifest.json"
    new = manifest.with_name("new")
    new.write_text(manifest.read_text().replace('"2.27.7-1"', '"2.27.7-2"'))
    new.rename(manifest)
    assert apply_operations(ours.start(), {})["NCCL_VERSION"] == "2.27.7-2"


@pytest.mark.parametrize("target", ["{nccl}/versions/{id}", "versions/{id}/"])
def test_other_spellings_of_the_link_lead_to_the_version_too(ours: Site, target: str) -> None:
    (ours.nccl / "current").unlink()
    (ours.nccl / "current").symlink_to(target.format(nccl=ours.nccl, id=NEW))
    assert library(ours) == f"{ours.nccl}/versions/{NEW}/lib"


def break_the_link(site: Site) -> None:
    (site.nccl / "current").unlink()
    (site.nccl / "current").symlink_to("/etc")


def break_by_leading_outside(site: Site) -> None:
    (site.nccl / "current").unlink()
    (site.nccl / "current").symlink_to("versions/../../x")


def break_by_a_version_that_is_not_there(site: Site) -> None:
    site.use_version("2.99")


def break_by_a_folder_in_place_of_the_link(site: Site) -> None:
    (site.nccl / "current").unlink()
    (site.nccl / "current").mkdir()


def break_the_manifest(site: Site) -> None:
    (site.nccl / "versions" / OLD / "manifest.json").write_text("{}")


def break_by_another_versions_manifest(site: Site) -> None:
    text = (site.nccl / "versions" / NEW / "manifest.json").read_text()
    (site.nccl / "versions" / OLD / "manifest.json").write_text(text)


def break_by_removing_the_library(site: Site) -> None:
    (site.nccl / "versions" / OLD / "lib").rmdir()


def break_trust_in_the_manifest(site: Site) -> None:
    (site.nccl / "versions" / OLD / "manifest.json").chmod(0o666)


def break_trust_in_the_library(site: Site) -> None:
    (site.nccl / "versions" / OLD / "lib").chmod(0o777)


def break_trust_in_the_versions(site: Site) -> None:
    (site.nccl / "versions").chmod(0o777)


BROKEN = [value for name, value in globals().items() if name.startswith("break_")]


@pytest.mark.parametrize("damage", BROKEN, ids=lambda change: change.__name__[len("break_") :])
def test_a_broken_version_gives_jobs_nothing_and_one_warning(ours: Site, damage: object) -> None:
    assert callable(damage)
    damage(ours)
    first, second = ours.start(), ours.start()
    assert (list(first), list(second)) == ([], [])
    assert len(first.notes) == 1
    assert "jobs get nothing" in first.notes[0]
    assert second.notes == []


def test_a_plugin_that_stands_elsewhere_is_found_behind_the_library(site: Site) -> None:
    site.install_version(NEW, ofi="1.17.2-aws", ofi_folder="/opt/amazon/ofi-nccl/lib")
    site.use_version(NEW)
    path = site.task()["LD_LIBRARY_PATH"]
    assert path == f"{site.nccl}/versions/{NEW}/lib:/usr/local/lib:/opt/amazon/ofi-nccl/lib"


def test_the_tuner_is_looked_for_in_the_version(ours: Site) -> None:
    (ours.nccl / "versions" / OLD / "lib/libnccl-ofi-tuner.so").touch()
    [note] = ours.start().notes
    assert f"versions/{OLD}/lib/libnccl-ofi-tuner.so" in note


def test_the_facts_are_the_manifests(ours: Site) -> None:
    ours.use_version(NEW)
    ours.values["nccl.instance_type"] = "p5.48xlarge"
    found = current_installation(ours.config, ours.shared_fs)
    assert facts_of(found, ours.config) == Facts("2.28.7-1", "1.17.2-aws", "2.1.0", "p5.48xlarge")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("v2.28.7-1", (2, 28, 7)), ("1.17.2-aws", (1, 17, 2)), ("2.1.0amzn3.0", (2, 1, 0)), ("", ()), ("master", ())],
)
def test_versions_are_numbers(text: str, numbers: tuple[int, ...]) -> None:
    assert parse_version(text) == numbers


@pytest.mark.parametrize(
    ("when", "facts", "holds"),
    [
        pytest.param(When(ofi=("", "1.6")), Facts(ofi="1.5.0-aws"), True, id="older"),
        pytest.param(When(ofi=("", "1.6")), Facts(ofi="1.16.0"), False, id="numbers-not-text"),
        pytest.param(When(ofi=("", "1.6")), Facts(), False, id="unknown-is-newest"),
        pytest.param(When(ofi=("1.16", "")), Facts(), True, id="unknown-is-newest-too"),
        pytest.param(When(nccl=("2.19", "2.21")), Facts(nccl="2.20.5-1"), True, id="between"),
        pytest.param(When(nccl=("2.19", "2.21")), Facts(nccl="2.21.5-1"), False, id="after"),
        pytest.param(When(instances=("p5",)), Facts(instance="p5.48xlarge"), True, id="family"),
        pytest.param(When(instances=("p5",)), Facts(instance="p5en.48xlarge"), False, id="another-family"),
        pytest.param(When(instances=("p5",)), Facts(), False, id="unknown-instance"),
    ],
)
def test_conditions(when: When, facts: Facts, holds: bool) -> None:
    assert when.holds(facts) == holds
