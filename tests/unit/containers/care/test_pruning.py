from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slurm_fsx_tools.containers.care.pruning import DAY_S, Policy, Verdict, judge
from slurm_fsx_tools.containers.records import Record
from slurm_fsx_tools.uses import Activity, Use

NOW_S = 1_700_000_000.0
TAGS = ("24.01", "24.02", "24.9", "24.10")
TOOL = "nvcr.io_nvidia_tool-"


def record(age_days: float) -> Record:
    return Record("docker://x/y:1", "sha256:0", "amd64", "0", 1, 1, NOW_S - age_days * DAY_S, "skopeo")


def verdicts(
    site,
    keep: int = 0,
    older_than_days: float = 0,
    records: dict[str, Record] | None = None,
    uses: dict[str, Use] | None = None,
    active: frozenset[int] = frozenset(),
) -> dict[str, Verdict]:
    found = judge(
        site.scan(), site.config, Policy(keep, older_than_days), records or {}, uses or {}, Activity(active), NOW_S
    )
    return {verdict.image.stem: verdict for verdict in found}


def going(found: dict[str, Verdict]) -> set[str]:
    return {stem for stem, verdict in found.items() if verdict.goes}


@pytest.fixture
def tools(site):
    site.add(*(TOOL + tag for tag in TAGS), "quay.io_x_tool-1")
    for path in site.folder.glob("*.sqsh"):
        os.utime(path, (NOW_S - 100 * DAY_S, NOW_S - 100 * DAY_S))
    return site


def test_the_newest_of_each_repository_stay_by_version(tools) -> None:
    found = verdicts(tools, keep=2)
    assert going(found) == {TOOL + "24.01", TOOL + "24.02"}
    assert found[TOOL + "24.10"].reason == "is among the newest 2 of nvcr.io/nvidia/tool"
    assert found[TOOL + "24.01"].reason == "100 days old, and 2 newer are there"
    assert found["quay.io_x_tool-1"].reason == "is among the newest 2 of quay.io/x/tool"


def test_images_younger_than_asked_stay(tools) -> None:
    os.utime(tools.folder / f"{TOOL}24.01.sqsh", (NOW_S - 5 * DAY_S, NOW_S - 5 * DAY_S))
    found = verdicts(tools, keep=1, older_than_days=30)
    assert going(found) == {TOOL + "24.02", TOOL + "24.9"}
    assert found[TOOL + "24.01"].reason == "was changed 5 days ago"


def test_an_imported_images_age_counts_from_its_import(tools) -> None:
    found = verdicts(
        tools, older_than_days=30, records={f"{TOOL}24.01.sqsh": record(3), f"{TOOL}24.02.sqsh": record(60)}
    )
    assert found[TOOL + "24.01"].reason == "came 3 days ago"
    assert found[TOOL + "24.02"].goes


def test_an_image_that_was_used_lately_stays(tools) -> None:
    uses = {
        f"{TOOL}24.01.sqsh": Use(frozenset(), NOW_S - 2 * DAY_S),
        f"{TOOL}24.02.sqsh": Use(frozenset(), NOW_S - 40 * DAY_S),
    }
    found = verdicts(tools, older_than_days=30, uses=uses)
    assert found[TOOL + "24.01"].reason == "was used 2 days ago"
    assert found[TOOL + "24.02"].reason == "not used for 40 days"
    assert found[TOOL + "24.02"].goes


def test_an_image_that_a_running_job_uses_stays_and_one_of_an_ended_job_goes(tools) -> None:
    uses = {f"{TOOL}24.01.sqsh": Use(frozenset({"7", "9"}), 0), f"{TOOL}24.02.sqsh": Use(frozenset({"8"}), 0)}
    found = verdicts(tools, keep=1, uses=uses, active=frozenset({9, 10}))
    assert found[TOOL + "24.01"].reason == "job 9 uses it"
    assert found[TOOL + "24.02"].goes


@pytest.mark.parametrize("value", ["nvcr.io/nvidia/tool:24.01", f"{TOOL}24.01.sqsh", f"{TOOL}24.01"])
def test_an_image_that_an_alias_names_stays(tools, value: str) -> None:
    tools.values["containers.aliases"] = {"mine": value}
    assert verdicts(tools)[TOOL + "24.01"].reason == "the alias 'mine' names it"


def test_a_link_and_what_it_leads_to_stay(tools) -> None:
    (tools.folder / "stable.sqsh").symlink_to(f"{TOOL}24.01.sqsh")
    found = verdicts(tools)
    assert found[TOOL + "24.01"].reason == "stable.sqsh is a link to it"
    assert found["stable"].reason == f"is a link to {TOOL}24.01.sqsh"


def test_what_is_no_image_is_left_alone(tools) -> None:
    tools.add(TOOL + "24.03", content=b"half")
    assert TOOL + "24.03" not in verdicts(tools)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.builds(
            lambda space, tag: f"{space}tool-{tag}",
            st.sampled_from(["nvcr.io_a_", "quay.io_b_", ""]),
            st.sampled_from(TAGS),
        ),
        st.tuples(st.integers(0, 100), st.frozensets(st.integers(1, 3)), st.integers(0, 100)),
        max_size=8,
    ),
    st.integers(0, 3),
    st.integers(0, 100),
    st.frozensets(st.integers(1, 3)),
)
def test_whatever_the_policy_no_image_goes_that_is_needed(
    make_site,
    files: dict[str, tuple[int, frozenset[int], int]],
    keep: int,
    older_than_days: int,
    active: frozenset[int],
) -> None:
    with tempfile.TemporaryDirectory() as place:
        site = make_site(Path(place) / "fsx")
        site.add(*files)
        uses = {}
        for stem, (age_days, jobs, used_days) in files.items():
            os.utime(site.folder / f"{stem}.sqsh", (NOW_S - age_days * DAY_S,) * 2)
            uses[f"{stem}.sqsh"] = Use(frozenset(map(str, jobs)), NOW_S - used_days * DAY_S)
        found = verdicts(site, keep, older_than_days, uses=uses, active=active)
    assert set(found) == set(files)
    left = set(files) - going(found)
    for stem in going(found):
        age_days, jobs, used_days = files[stem]
        assert not jobs & active
        assert min(age_days, used_days) >= older_than_days - 1e-6
        space, _, tag = stem.rpartition("tool-")
        newer = [
            other
            for other in left
            if other.startswith(f"{space}tool-") and TAGS.index(other.rpartition("-")[2]) > TAGS.index(tag)
        ]
        assert len(newer) >= keep
