from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slurm_fsx_tools.containers.index import (
    Index,
    has_settled,
    index_path,
    is_fresh,
    read_index,
    update_index,
    write_index,
)
from slurm_fsx_tools.containers.names import is_container_name
from slurm_fsx_tools.containers.resolution import answers, resolve
from slurm_fsx_tools.errors import ImageNotFound, SharedFsUnavailable, SlurmFsxError, UntrustedFile

DATA = Path(__file__).resolve().parents[2] / "data" / "index"
CASES = json.loads((DATA / "cases.json").read_text())
SPANK = Path(__file__).resolve().parents[3] / "spank"

PYTORCH = ("nvcr.io_nvidia_pytorch-24.01-py3", "nvcr.io_nvidia_pytorch-24.03-py3")


def index_of(site, is_complete: bool = True, must_ask: bool = False) -> Index:
    return Index.of(site.catalogue(), site.config, is_complete, must_ask)


def test_the_index_holds_every_name_that_resolves_in_the_order_of_bytes(site) -> None:
    site.add(*PYTORCH, "mytool", "Zebra-1", "größe-1")
    site.values["containers.aliases"] = {"best": "nvcr.io/nvidia/pytorch:24.01-py3"}
    index = index_of(site)
    entries = dict(index.entries())
    assert entries["best"] == entries["pytorch-24.01"] == f"{site.folder}/{PYTORCH[0]}.sqsh"
    assert entries["pytorch"] == entries["pytorch-24"] == f"{site.folder}/{PYTORCH[1]}.sqsh"
    assert set(entries) == set(answers(site.catalogue(), site.config))
    names = [name.encode() for name in entries]
    assert names == sorted(names)
    sorted_by_sort = subprocess.run(
        ["sort", "-c"], input=index.lines, env={"LC_ALL": "C", "PATH": os.environ["PATH"]}, check=False
    )
    assert sorted_by_sort.returncode == 0


def test_an_index_reads_back_as_it_was_written(site) -> None:
    site.add(*PYTORCH)
    index = index_of(site, must_ask=True)
    assert Index.parse(index.format()) == index


def test_every_name_is_found_and_nothing_else(site) -> None:
    site.add(*PYTORCH, "a", "b-1", "größe-1")
    index = index_of(site)
    for name, path in index.entries():
        assert index.look_up(name) == path
    for name in ("", "0", "pytorch-", "pytorch-24.0", "zzz", "pytorch\t", "# folder", "gr"):
        assert index.look_up(name) is None
    assert Index(0, "default", True, False, b"").look_up("a") is None


stems = st.builds(
    lambda space, repository, tag: f"{space}{repository}{tag}",
    st.sampled_from(["nvcr.io_nvidia_", "nvcr.io_", "docker.io_library_", "quay.io_a_b_", "", "nvidia+"]),
    st.sampled_from(["tool", "tool-2", "tool%2D2", "to_ol", "tool+", "TOOL"]),
    st.sampled_from(
        ["", "-1", "-1.0", "-1.0-rc1", "-1.0_a", "-1.10", "-1.9", "-latest", "-2-1", "1", "-1@sha256-" + "a" * 64]
    ),
)
contents = st.sampled_from(["image"] * 6 + ["private", "broken", "link", "dangling"])
aliases = st.dictionaries(
    st.sampled_from(["tool", "tool-1", "mine", "no:name"]),
    st.one_of(stems, st.sampled_from(["nvcr.io/nvidia/tool:1.0", "tool", "not a name"])),
    max_size=3,
)
preferences = st.lists(
    st.sampled_from(["nvcr.io/nvidia", "nvcr.io", "docker.io", "tool", "quay.io/a/b/tool"]), max_size=3
)


def fill(site, files: dict[str, str], wanted: dict[str, str], prefer: list[str]) -> None:
    names = sorted(files)
    for stem in names:
        if files[stem] in ("link", "dangling"):
            target = f"{names[0]}.sqsh" if files[stem] == "link" else "gone.sqsh"
            (site.folder / f"{stem}.sqsh").symlink_to(target)
        else:
            site.add(stem, content=b"half" if files[stem] == "broken" else None)
            (site.folder / f"{stem}.sqsh").chmod(0o600 if files[stem] == "private" else 0o644)
    site.values.update({"containers.aliases": wanted, "containers.prefer": prefer})


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(stems, contents, max_size=8), aliases, preferences)
def test_index_and_resolution_never_disagree(
    make_site, files: dict[str, str], wanted: dict[str, str], prefer: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as place:
        site = make_site(Path(place) / "fsx")
        fill(site, files, wanted, prefer)
        index = index_of(site)
        known = answers(site.catalogue(), site.config)
        for name, answer in known.items():
            assert is_container_name(name)
            if isinstance(answer, ImageNotFound):
                with pytest.raises(ImageNotFound, match=r"alias|called|could be"):
                    resolve(name, site.catalogue(), site.config)
                assert index.look_up(name) is None
            else:
                assert resolve(name, site.catalogue(), site.config) == answer
                assert index.look_up(name) in (None, answer.path)
                if set(files.values()) <= {"image"}:
                    assert index.look_up(name) == answer.path
        assert {name for name, _ in index.entries()} <= set(known)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(stems, contents, max_size=8), aliases, preferences, st.data())
def test_the_index_stays_true_when_files_heal_and_for_those_who_cannot_read_all(
    make_site, files: dict[str, str], wanted: dict[str, str], prefer: list[str], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as place:
        site = make_site(Path(place) / "fsx")
        fill(site, files, wanted, prefer)
        index = index_of(site)
        # What can change without a change of the folder: a half file is completed, a private one is no image to others.
        for stem, content in files.items():
            if content == "broken" and data.draw(st.booleans(), label=f"{stem} heals"):
                site.add(stem)
            if content == "private" and data.draw(st.booleans(), label=f"{stem} is hidden"):
                site.add(stem, content=b"as good as unreadable")
        for name, path in index.entries():
            assert resolve(name, site.catalogue(), site.config).path == path


def test_a_name_that_a_growing_file_may_take_over_is_left_to_resolution(site) -> None:
    site.add(*PYTORCH)
    site.add("nvcr.io_nvidia_pytorch-24.05-py3", content=b"")
    names = dict(index_of(site).entries())
    assert not {"pytorch", "pytorch-24", "pytorch-24.05"} & set(names)
    assert {"pytorch-24.01", "pytorch-24.03"} <= set(names)


def test_a_growing_file_of_an_older_tag_takes_over_nothing(site) -> None:
    site.add("nvcr.io_nvidia_pytorch-24.03-py3")
    site.add("nvcr.io_nvidia_pytorch-23.05-py3", content=b"")
    assert {"pytorch", "pytorch-24"} <= set(dict(index_of(site).entries()))


def test_writing_makes_a_folder_and_a_file_that_all_can_read_and_only_the_owner_can_write(site) -> None:
    old = os.umask(0o077)
    try:
        write_index(index_of(site), str(site.folder))
    finally:
        os.umask(old)
    path = Path(index_path(str(site.folder)))
    assert path.stat().st_mode & 0o777 == 0o644
    assert path.parent.stat().st_mode & 0o777 == 0o755
    assert read_index(str(path)) == Index.parse(path.read_bytes())
    assert os.listdir(path.parent) == ["index"]


def test_an_index_is_fresh_until_the_folder_or_the_policy_changes(site) -> None:
    site.add(*PYTORCH)
    write_index(index_of(site), str(site.folder))
    site.settle()
    index = index_of(site)
    write_index(index, str(site.folder))
    assert is_fresh(index, str(site.folder), "default")
    assert not is_fresh(index, str(site.folder), "another")
    assert not is_fresh(index._replace(is_complete=False), str(site.folder), "default")
    assert not is_fresh(index._replace(must_ask=True), str(site.folder), "default")
    site.add("new-1")
    assert not is_fresh(index, str(site.folder), "default")


@pytest.mark.parametrize(
    ("age_s", "settled"),
    [
        pytest.param(0.0, False, id="now"),
        pytest.param(1.9, False, id="just-before"),
        pytest.param(2.0, True, id="long-enough"),
        pytest.param(86_400, True, id="yesterday"),
        pytest.param(-1.0, False, id="another-clock"),
        pytest.param(-86_400, True, id="set-to-tomorrow"),
    ],
)
def test_a_folder_has_settled_when_its_next_change_gets_another_time_stamp(age_s: float, settled: bool) -> None:
    now_ns = 1_700_000_000_000_000_000
    assert has_settled(now_ns - int(age_s * 1e9), now_ns) == settled


def test_updating_waits_until_the_folder_has_settled(site) -> None:
    site.add(*PYTORCH)
    waits = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        time.sleep(seconds)

    index = update_index(site.config, must_ask=False, sleep=wait)
    assert index.is_complete
    assert len(waits) == 1
    assert 1.5 < waits[0] <= 2.0
    assert is_fresh(read_index(index_path(str(site.folder))), str(site.folder), "default")


def test_updating_a_settled_folder_does_not_wait(site) -> None:
    write_index(index_of(site), str(site.folder))
    site.add(*PYTORCH)
    site.settle()
    index = update_index(site.config, must_ask=False, sleep=lambda seconds: pytest.fail(f"waits {seconds} s"))
    assert is_fresh(index, str(site.folder), "default")


def test_the_index_of_a_folder_that_keeps_changing_is_not_complete(site) -> None:
    def wait(seconds: float) -> None:
        site.add(f"new{time.monotonic_ns()}-1")

    index = update_index(site.config, must_ask=False, sleep=wait)
    assert not index.is_complete
    assert not is_fresh(index, str(site.folder), "default")


def test_without_a_containers_folder_updating_says_so(site) -> None:
    site.folder.rmdir()
    with pytest.raises(SharedFsUnavailable, match="there is no containers folder"):
        update_index(site.config, must_ask=False)


def test_an_index_that_cannot_be_written_is_named(site) -> None:
    (site.folder / ".slurm-fsx/index").mkdir(parents=True)
    (site.folder / ".slurm-fsx/index/x").touch()
    with pytest.raises(OSError, match=r"\.slurm-fsx/index'$"):
        write_index(index_of(site), str(site.folder))


def test_an_index_folder_that_is_a_link_is_refused(site, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (site.folder / ".slurm-fsx").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UntrustedFile):
        write_index(index_of(site), str(site.folder))
    assert os.listdir(tmp_path / "elsewhere") == []


def test_an_index_folder_that_others_can_write_is_refused(site) -> None:
    (site.folder / ".slurm-fsx").mkdir()
    (site.folder / ".slurm-fsx").chmod(0o777)
    with pytest.raises(UntrustedFile, match="chmod go-w"):
        write_index(index_of(site), str(site.folder))


@pytest.mark.usefixtures("needs_root")
def test_an_index_folder_of_another_user_is_refused(site) -> None:
    (site.folder / ".slurm-fsx").mkdir()
    os.chown(site.folder / ".slurm-fsx", 65534, 65534)
    with pytest.raises(UntrustedFile, match="belongs to user 65534"):
        write_index(index_of(site), str(site.folder))


def test_an_index_that_others_can_write_is_not_read(site) -> None:
    write_index(index_of(site), str(site.folder))
    path = index_path(str(site.folder))
    os.chmod(path, 0o666)
    with pytest.raises(UntrustedFile):
        read_index(path)


def test_an_index_of_ten_thousand_images_knows_all_of_them(site) -> None:
    for number in range(10_000):
        site.add(f"nvcr.io_nvidia_tool{number // 5}-24.{number % 5:02}-py3")
    index = index_of(site)
    for number in range(2_000):
        assert index.look_up(f"tool{number}-24").endswith(f"tool{number}-24.04-py3.sqsh")


# The same files are read in C: what one reader believes, the other does.


def ask_in_c(core_tool: Path, index: Path, folder: Path, policy: str, name: str) -> str:
    """Give the path that the C reader finds, or ``unknown``, ``stale``, or ``error``."""
    done = subprocess.run(
        [core_tool, "index", index, folder, policy, name], capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return done.stdout.rstrip("\n")
    assert done.returncode == 1, done.stderr  # anything else is a crash, or a sanitizer's word
    return done.stderr.strip() if done.stderr.strip() in ("unknown", "stale") else "error"


def ask_in_python(index: Path, folder: Path, policy: str, name: str) -> str:
    try:
        read = read_index(str(index))
    except SlurmFsxError:
        return "stale"
    if not is_fresh(read, str(folder), policy):
        return "stale"
    return read.look_up(name) or "unknown"


@pytest.fixture
def planted(site, tmp_path: Path):
    """Give a copy of a fixture that nobody else can write, beside the folder that it describes."""
    site.settle(CASES["folder_ns"])

    def plant(file: str) -> Path:
        shutil.copyfile(DATA / file, tmp_path / "index")
        (tmp_path / "index").chmod(0o644)
        return tmp_path / "index"

    return plant


@pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in CASES["cases"]])
def test_python_reads_the_fixtures_as_documented(case: dict[str, str], planted, site) -> None:
    answer = ask_in_python(planted(case["file"]), site.folder, case.get("policy", "default"), case["name"])
    assert answer == case["python" if "python" in case else "answer"]


@pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in CASES["cases"]])
def test_c_reads_the_fixtures_as_documented(case: dict[str, str], planted, site, core_tool: Path) -> None:
    answer = ask_in_c(core_tool, planted(case["file"]), site.folder, case.get("policy", "default"), case["name"])
    assert answer == case["answer"]


def test_every_fixture_is_used() -> None:
    used = {case["file"] for case in CASES["cases"]}
    assert used == {path.name for path in DATA.iterdir()} - {"cases.json"}


def test_c_finds_every_name_that_python_wrote_and_nothing_else(site, core_tool: Path) -> None:
    site.add(*PYTORCH, "größe-1", "a b-1", "_x", "Zebra-1", "0")
    write_index(index_of(site), str(site.folder))
    site.settle()
    index = index_of(site)
    write_index(index, str(site.folder))
    path = Path(index_path(str(site.folder)))
    for name, image in index.entries():
        assert ask_in_c(core_tool, path, site.folder, "default", name) == image
    for name in ("pytorch-24.0", "zzz", "~", " ", "a", "gr"):
        assert ask_in_c(core_tool, path, site.folder, "default", name) == "unknown"
