from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from slurm_fsx_tools.errors import SharedFsUnavailable
from slurm_fsx_tools.nccl.installation import RETRY_S, Installation, current_installation, recall
from slurm_fsx_tools.shared_fs import SharedFs

if TYPE_CHECKING:
    from .conftest import Site


def current(site: Site) -> Installation | None:
    return current_installation(site.config, site.shared_fs)


def found(site: Site) -> Installation:
    installation = current(site)
    assert installation is not None
    return installation


def test_an_installation_is_there_if_its_setup_script_is(site: Site) -> None:
    assert found(site) == Installation(
        folder=str(site.nccl), library_folders=[f"{site.nccl}/lib"], version="v2.28.7-1", tuner=found(site).tuner
    )
    site.script.unlink()
    assert current(site) is None


@pytest.mark.parametrize("gone", [pytest.param("nccl", id="no-nccl"), pytest.param(".", id="no-shared-file-system")])
def test_nothing_there_is_no_error(site: Site, gone: str) -> None:
    (site.fsx / gone).rename(site.run_dir / "elsewhere")
    assert current(site) is None


def test_a_script_is_sourced_once(site: Site) -> None:
    first = found(site)
    assert [found(site), found(site)] == [first, first]
    assert site.times_sourced == 1


def test_a_changed_script_is_sourced_again(site: Site) -> None:
    site.install("export A=1")
    assert found(site).variables == {"A": "1"}
    site.install("export A=22")
    assert found(site).variables == {"A": "22"}


def test_a_replaced_script_is_sourced_again_whatever_its_times(site: Site) -> None:
    site.install("export A=1")
    assert found(site).variables == {"A": "1"}
    times = site.script.stat()
    new = site.nccl / "new"
    new.write_text(site.script.read_text().replace("A=1", "A=2"))
    os.utime(new, ns=(times.st_atime_ns, times.st_mtime_ns))
    new.rename(site.script)
    assert found(site).variables == {"A": "2"}


def test_a_new_version_is_seen_at_once(site: Site) -> None:
    assert found(site).version == "v2.28.7-1"
    site.version.write_text("v2.29.2-1")
    assert found(site).version == "v2.29.2-1"


def test_the_same_files_below_another_mount_point_are_another_installation(site: Site) -> None:
    found(site)
    moved = site.fsx.rename(site.fsx.with_name("lustre"))
    site.values["fsx.root"] = str(moved)
    assert current_installation(site.config, SharedFs(str(moved), 2.0)) == Installation(
        folder=f"{moved}/nccl", library_folders=[f"{moved}/nccl/lib"], version="v2.28.7-1", tuner=found(site).tuner
    )


@pytest.mark.parametrize(
    ("text", "version"),
    [
        pytest.param("v2.28.7-1", "v2.28.7-1", id="no-line-end"),
        pytest.param(" 2.28.7+cuda13.0 \r\n", "2.28.7+cuda13.0", id="blanks"),
        pytest.param("", "", id="empty"),
        pytest.param("2.28.7\n2.29.2\n", "", id="two-lines"),
        pytest.param("2.28.7; rm -rf /", "", id="a-command"),
        pytest.param("$(id)", "", id="a-substitution"),
        pytest.param("2.28.7\0", "", id="nul"),
        pytest.param("²", "", id="unicode"),
        pytest.param("2" * 1000, "", id="too-long"),
    ],
)
def test_a_version_is_one_word_of_harmless_characters(site: Site, text: str, version: str) -> None:
    site.version.write_text(text)
    assert found(site).version == version
    assert len(found(site).notes) == (0 if version else 1)


def test_no_version_file_is_no_news(site: Site) -> None:
    site.version.unlink()
    assert found(site).version == ""
    assert not found(site).notes


def test_without_a_version_file_the_scripts_word_counts(site: Site) -> None:
    site.install("export NCCL_VERSION=2.27.1")
    assert found(site).version == "v2.28.7-1"
    site.version.unlink()
    assert found(site).version == "2.27.1"
    assert not found(site).variables


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("link", id="link"),
        pytest.param("fifo", id="fifo"),
        pytest.param("folder", id="folder"),
    ],
)
def test_a_version_file_that_is_no_file_is_said_and_left_alone(site: Site, kind: str) -> None:
    site.version.unlink()
    if kind == "link":
        site.version.symlink_to("/etc/hostname")
    elif kind == "fifo":
        os.mkfifo(site.version)
    else:
        site.version.mkdir()
    assert found(site).version == ""
    assert ".nccl_version" in found(site).notes[0]


def distrust_owner_of_script(site: Site) -> None:
    os.chown(site.script, 1234, 0)


def distrust_owner_of_folder(site: Site) -> None:
    os.chown(site.nccl, 1234, 0)


def distrust_group_of_script(site: Site) -> None:
    site.script.chmod(0o664)


def distrust_others_in_folder(site: Site) -> None:
    site.nccl.chmod(0o777)


def distrust_sticky_folder(site: Site) -> None:
    site.nccl.chmod(0o1777)


def distrust_linked_script(site: Site) -> None:
    site.script.rename(site.nccl / "real.sh")
    site.script.symlink_to("real.sh")


def distrust_linked_folder(site: Site) -> None:
    site.nccl.rename(site.fsx / "real")
    site.nccl.symlink_to("real")


def distrust_script_that_is_a_fifo(site: Site) -> None:
    site.script.unlink()
    os.mkfifo(site.script)


def distrust_folder_that_is_a_file(site: Site) -> None:
    site.nccl.rename(site.fsx / "real")
    site.nccl.touch()


DISTRUSTED = [value for name, value in globals().items() if name.startswith("distrust_")]


@pytest.mark.parametrize("distrust", DISTRUSTED, ids=lambda change: change.__name__[len("distrust_") :])
def test_what_others_could_have_written_gives_jobs_nothing_and_one_warning(
    site: Site, distrust: object, needs_root: None
) -> None:
    assert callable(distrust)
    distrust(site)
    first, second = site.start(), site.start()
    assert list(first) == []
    assert len(first.notes) == 1
    assert str(site.nccl) in first.notes[0]
    assert (list(second), second.notes) == ([], [])
    assert site.times_sourced == 0


def test_an_installation_that_is_mended_is_used_at_once(site: Site) -> None:
    site.nccl.chmod(0o777)
    assert list(site.start()) == []
    site.nccl.chmod(0o755)
    assert len(site.start()) > 0


@pytest.mark.parametrize(
    ("present", "library"),
    [
        pytest.param(("lib",), "lib", id="lib"),
        pytest.param(("lib64",), "lib64", id="lib64"),
        pytest.param(("lib", "lib64"), "lib", id="both"),
    ],
)
def test_the_library_folder_is_found(site: Site, present: tuple[str, ...], library: str) -> None:
    (site.nccl / "lib").rmdir()
    for name in present:
        (site.nccl / name).mkdir()
    assert found(site).library_folders == [f"{site.nccl}/{library}"]
    assert not found(site).notes


def test_the_scripts_own_folders_below_the_installation_come_before_a_guess(site: Site) -> None:
    site.install(
        f"export LD_LIBRARY_PATH={site.nccl}/build/lib:{site.nccl}/../evil:/opt/amazon/efa/lib:{site.nccl}/ofi/lib"
    )
    assert found(site).library_folders == [f"{site.nccl}/build/lib", f"{site.nccl}/ofi/lib"]
    assert found(site).lists == {"LD_LIBRARY_PATH": [f"{site.nccl}/../evil", "/opt/amazon/efa/lib"]}


def test_a_failed_script_leaves_the_documented_variables_and_is_not_tried_at_each_job(site: Site) -> None:
    site.install("export A=1; exit 3")
    first, second = site.start(), site.start()
    assert list(first) == list(second)
    assert {"FI_PROVIDER", "LD_LIBRARY_PATH"} <= {operation.name for operation in first}
    assert "A" not in {operation.name for operation in first}
    assert "status 3" in first.notes[0]
    assert not second.notes
    assert site.times_sourced == 1


def expire(site: Site, seconds: float) -> None:
    """Let what the node remembers expire in so many seconds."""
    path = site.run_dir / "nccl.json"
    document = json.loads(path.read_text())
    document["expires"] = time.time() + seconds
    path.write_text(json.dumps(document))


@pytest.mark.parametrize("seconds", [pytest.param(-1, id="later"), pytest.param(2 * RETRY_S, id="clock-was-set-back")])
def test_a_failed_script_is_tried_again_after_a_while_and_fails_in_silence(site: Site, seconds: float) -> None:
    site.install("exit 3")
    assert site.start().notes
    expire(site, seconds)
    assert not site.start().notes
    assert site.times_sourced == 2


def test_a_library_folder_that_comes_late_is_found_in_the_end(site: Site) -> None:
    (site.nccl / "lib").rmdir()
    assert found(site).library_folders == [f"{site.nccl}/lib"]
    assert "neither" in found(site).notes[0]
    (site.nccl / "lib64").mkdir()
    expire(site, -1)
    assert found(site).library_folders == [f"{site.nccl}/lib64"]
    assert not found(site).notes


def test_a_script_that_never_ends_costs_half_the_time_of_a_look_and_only_once(site: Site) -> None:
    site.values["fsx.timeout"] = 0.6
    site.install("sleep 60")
    began = time.monotonic()
    assert "took longer than 0.3 s" in site.start().notes[0]
    assert time.monotonic() - began < 0.6
    began = time.monotonic()
    assert len(site.start()) > 0
    assert time.monotonic() - began < 0.2


def test_a_shared_file_system_that_does_not_answer_is_an_error_for_the_log(site: Site) -> None:
    with pytest.raises(SharedFsUnavailable):
        current_installation(site.config, SharedFs(str(site.fsx), 0.0))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("[]", id="a-list"),
        pytest.param('{"format": 0}', id="another-version"),
        pytest.param('{"format": 1, "key": "x"}', id="half"),
        pytest.param('{"format": 1, "key": "", "installation": {"evil": 1}, "expires": 0, "said": []}', id="foreign"),
        pytest.param('{"format": 1, "key": "", "installation": null, "expires": 0, "said": []}', id="null"),
        pytest.param("\xff", id="no-json"),
    ],
)
def test_a_damaged_memory_is_no_memory(site: Site, text: str) -> None:
    (site.run_dir / "nccl.json").write_text(text, encoding="latin-1")
    assert recall(site.config) is None
    assert found(site).version == "v2.28.7-1"


def test_a_memory_that_others_could_have_written_is_no_memory(site: Site) -> None:
    site.install("export A=1")
    found(site)
    path = site.run_dir / "nccl.json"
    path.write_text(path.read_text().replace('"A": "1"', '"A": "evil"'))
    assert found(site).variables == {"A": "evil"}
    path.chmod(0o666)
    assert found(site).variables == {"A": "1"}


def test_a_runtime_folder_that_cannot_be_written_costs_time_and_nothing_else(site: Site) -> None:
    site.values["runtime_dir"] = "/proc/slurm-fsx"
    assert found(site) == found(site)
    assert site.times_sourced == 2


def test_bytes_that_are_no_text_survive_the_memory(site: Site) -> None:
    site.install("export A=$'\\xff\\xc3\\xa4'")
    first = found(site).variables
    assert os.fsencode(first["A"]) == b"\xff\xc3\xa4"
    assert found(site).variables == first


def test_the_memory_is_for_everybody_to_read_and_for_root_to_write(site: Site) -> None:
    found(site)
    path = Path(site.run_dir / "nccl.json")
    assert path.stat().st_mode & 0o777 == 0o644
    assert [name for name in os.listdir(site.run_dir) if name != "nccl.json"] == []
