from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from slurm_fsx_tools.containers.index import is_fresh, read_index
from slurm_fsx_tools.containers.records import Record, write_record
from slurm_fsx_tools.containers.store import Store
from slurm_fsx_tools.errors import ImageNotFound, SlurmFsxError, SlurmUnavailable

DAY_S = 24 * 3600
OLD = "nvcr.io_nvidia_pytorch-24.01-py3"
NEW = "nvcr.io_nvidia_pytorch-24.03-py3"


@pytest.fixture(autouse=True)
def no_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No Slurm anywhere: with one, tests/cluster does the same."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.fixture
def idle_slurm(no_slurm: None, tmp_path: Path) -> None:
    """A cluster without jobs, as squeue tells it: it prints nothing."""
    squeue = tmp_path / "bin/squeue"
    squeue.write_text("#!/bin/sh\n")
    squeue.chmod(0o755)


def store(cluster) -> Store:
    return Store(str(cluster.folder))


def record(cluster, stem: str, **changes: object) -> None:
    os.makedirs(store(cluster).records, exist_ok=True)
    status = os.stat(cluster.path(stem))
    known = Record("docker://x/y:1", "sha256:1", "amd64", "0" * 64, status.st_size, status.st_mtime_ns, 5.0, "skopeo")
    write_record(store(cluster), f"{stem}.sqsh", known._replace(**changes))


def files(cluster) -> set[str]:
    return {path.stem for path in cluster.folder.glob("*.sqsh")}


def grow_old(cluster, days: float, *stems: str) -> None:
    for stem in stems:
        os.utime(cluster.path(stem), (time.time() - days * DAY_S,) * 2)


def test_verify_names_what_is_damaged_with_what_to_do_and_ends_with_1(cluster) -> None:
    record(cluster, OLD)
    done = cluster.run("verify")
    assert done.exit_code == 1
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["damaged", f"{OLD}.sqsh"] in rows
    assert ["no", "record", f"{NEW}.sqsh", "superblock"] in rows
    assert f"{OLD}.sqsh is damaged: its sha256 is " in done.stderr
    assert (
        f"run: slurm-fsx containers remove {OLD}.sqsh; then slurm-fsx containers import docker://x/y:1" in done.stderr
    )


def test_verify_looks_at_the_named_images_alone_and_quickly_if_asked(cluster) -> None:
    record(cluster, OLD)
    done = cluster.run("verify", "--quick", "--json", OLD)
    assert done.exit_code == 0
    assert json.loads(done.stdout) == [
        {
            "file": f"{OLD}.sqsh",
            "state": "ok",
            "problem": None,
            "hint": None,
            "hashed": False,
            "digest": "sha256:1",
        }
    ]
    assert isinstance(cluster.run("verify", "pytorch").exception, ImageNotFound)


def test_verify_finds_files_that_are_no_images(cluster) -> None:
    cluster.add("half-1", content=b"hsqs")
    done = cluster.run("verify", "--json")
    [half] = [each for each in json.loads(done.stdout) if each["file"] == "half-1.sqsh"]
    assert (half["state"], half["problem"]) == ("damaged", "not complete: only 4 bytes are there")
    assert done.exit_code == 1


def test_list_gives_the_record_of_an_imported_image_and_the_jobs_that_use_it(cluster) -> None:
    record(cluster, OLD)
    os.makedirs(f"{store(cluster).uses}/{OLD}.sqsh/")
    Path(store(cluster).uses, f"{OLD}.sqsh", "7").touch()
    images = {image["path"]: image for image in json.loads(cluster.run("list", "--json").stdout)["images"]}
    assert images[cluster.path(OLD)]["jobs"] == [7]
    assert images[cluster.path(OLD)]["record"] == {
        "uri": "docker://x/y:1",
        "digest": "sha256:1",
        "architecture": "amd64",
        "sha256": "0" * 64,
        "importer": "skopeo",
        "imported": "1970-01-01T00:00:05Z",
    }
    assert (images[cluster.path(NEW)]["record"], images[cluster.path(NEW)]["jobs"]) == (None, [])
    head, *rows = cluster.run("list").stdout.split("\n\n")[0].splitlines()
    assert head.split() == ["name", "tag", "size", "date", "jobs", "file"]
    assert [row.split()[-2] for row in rows if row.endswith(f"{OLD}.sqsh")] == ["1"]


def test_list_goes_on_where_it_cannot_be_known_who_uses_the_images(cluster) -> None:
    os.makedirs(store(cluster).uses)
    os.chmod(store(cluster).uses, 0o777)
    done = cluster.run("list")
    assert "pytorch" in done.stdout
    assert "skipped: who uses the images: " in done.stderr


@pytest.mark.parametrize("command", [("remove", OLD), ("prune", "--keep", "1"), ("prune", "--keep", "1", "--yes")])
def test_without_an_answer_of_slurm_nothing_goes(cluster, command: tuple[str, ...]) -> None:
    done = cluster.run(*command)
    assert isinstance(done.exception, SlurmUnavailable)
    assert "nobody knows which images are in use: squeue is not installed" in str(done.exception)
    assert files(cluster) == {OLD, NEW}


def test_prune_without_any_limit_is_refused(cluster) -> None:
    for command in (("prune", "--yes"), ("prune", "--caches"), ("prune", "--caches", "--keep", "1")):
        done = cluster.run(*command)
        assert isinstance(done.exception, SlurmFsxError)
        assert "nothing says which images to keep" in str(done.exception)


@pytest.mark.usefixtures("idle_slurm")
class TestWithoutJobs:
    """Slurm answers, and nothing runs."""

    def test_remove_takes_the_image_and_tells_submissions(self, cluster) -> None:
        record(cluster, OLD)
        done = cluster.run("remove", OLD)
        assert (done.exit_code, done.stderr) == (0, f"removed {OLD}.sqsh\n1 image removed, 96 B freed\n")
        assert files(cluster) == {NEW}
        assert os.listdir(store(cluster).records) == []
        index = read_index(store(cluster).index_file)
        assert is_fresh(index, str(cluster.folder), "default") or not index.is_complete
        assert index.look_up("pytorch-24.01") is None
        assert index.look_up("pytorch") == cluster.path(NEW)

    def test_remove_takes_a_damaged_file(self, cluster) -> None:
        cluster.add("half-1", content=b"hsqs")
        assert cluster.run("remove", "half-1.sqsh").exit_code == 0
        assert files(cluster) == {OLD, NEW}

    def test_remove_leaves_what_an_alias_names_and_takes_the_rest(self, cluster) -> None:
        cluster.configure({"aliases": {"mine": "nvcr.io/nvidia/pytorch:24.01-py3"}})
        done = cluster.run("remove", OLD, NEW)
        assert done.exit_code == 1
        assert f"{OLD}.sqsh stays: {OLD}.sqsh is what the alias 'mine' means; " in done.stderr
        assert files(cluster) == {OLD}
        assert cluster.run("remove", "--force", OLD).exit_code == 0
        assert files(cluster) == set()

    def test_prune_says_what_would_go_and_why_the_rest_stays(self, cluster) -> None:
        grow_old(cluster, 40, OLD, NEW)
        for command in (("prune", "--keep", "1"), ("prune", "--older-than", "30", "--yes", "--dry-run")):
            done = cluster.run(*command)
            assert done.exit_code == 0
            rows = {line.split()[3]: line for line in done.stdout.splitlines()[1:]}
            assert rows[f"{OLD}.sqsh"].startswith("goes")
            assert rows[f"{OLD}.sqsh"].endswith("40 days old, and 1 newer is there")
            assert rows[f"{NEW}.sqsh"].endswith("is among the newest 1 of nvcr.io/nvidia/pytorch")
            assert done.stderr == "1 image would go, 96 B: run this again with --yes\n"
        assert files(cluster) == {OLD, NEW}

    def test_prune_without_options_proposes(self, cluster) -> None:
        done = cluster.run("prune")
        assert (done.exit_code, done.stdout) == (0, cluster.run("prune", "--keep", "1").stdout)
        assert done.stderr.endswith("run this again with --keep 1 --yes\n")
        assert files(cluster) == {OLD, NEW}

    def test_prune_takes_old_layers_and_the_uses_of_what_is_gone(self, cluster) -> None:
        layers = Path(store(cluster).layers, "sha256")
        layers.mkdir(parents=True)
        (layers / "old").write_bytes(b"1234")
        os.utime(layers / "old", (0, 0))
        Path(store(cluster).uses, "gone-1.sqsh").mkdir(parents=True)
        done = cluster.run("prune", "--keep", "9", "--yes")
        assert done.stderr == "layers of earlier imports removed, 4 B freed\n0 images removed, 0 B freed\n"
        assert os.listdir(layers) == os.listdir(store(cluster).uses) == []

    def test_prune_does_it_when_told_to(self, cluster) -> None:
        done = cluster.run("prune", "--keep", "1", "--yes")
        assert done.exit_code == 0
        assert done.stderr == f"removed {OLD}.sqsh\n1 image removed, 96 B freed\n"
        assert files(cluster) == {NEW}

    def test_prune_forgets_jobs_that_have_ended(self, cluster) -> None:
        folder = Path(store(cluster).uses, f"{NEW}.sqsh")
        folder.mkdir(parents=True)
        (folder / "7").touch()
        cluster.run("prune", "--keep", "1", "--yes")
        assert os.listdir(folder) == []

    def test_prune_gives_json(self, cluster) -> None:
        found = json.loads(cluster.run("prune", "--keep", "1", "--json").stdout)
        assert [(each["file"], each["goes"]) for each in found] == [(f"{NEW}.sqsh", False), (f"{OLD}.sqsh", True)]


def fill_cache(cluster) -> Path:
    cache = Path(store(cluster).caches, str(os.geteuid()))
    cache.mkdir(parents=True)
    for file, days in (("old.sqsh", 20), ("new.sqsh", 3)):
        (cache / file).write_bytes(b"hsqs")
        os.utime(cache / file, (time.time() - days * DAY_S,) * 2)
    return cache


@pytest.mark.usefixtures("idle_slurm")
def test_prune_of_caches_spares_what_was_used_lately(cluster) -> None:
    cache = fill_cache(cluster)
    done = cluster.run("prune", "--caches", "--older-than", "7")
    assert done.stderr == "1 image would go, 4 B: run this again with --yes\n"
    done = cluster.run("prune", "--caches", "--older-than", "7", "--yes", "--json")
    assert [(each["file"], each["goes"]) for each in json.loads(done.stdout)] == [
        ("old.sqsh", True),
        ("new.sqsh", False),
    ]
    assert {path.name for path in cache.glob("*.sqsh")} == {"new.sqsh"}
    assert files(cluster) == {OLD, NEW}


def test_prune_of_caches_spares_users_with_jobs_and_all_where_slurm_is_away(cluster, tmp_path: Path) -> None:
    cache = fill_cache(cluster)
    command = ("prune", "--caches", "--older-than", "7", "--yes")
    assert isinstance(cluster.run(*command).exception, SlurmUnavailable)
    squeue = tmp_path / "bin/squeue"
    squeue.write_text(f"#!/bin/sh\necho '7 {os.geteuid()} RUNNING'\n")
    squeue.chmod(0o755)
    done = cluster.run(*command)
    assert done.stderr == "0 images removed, 0 B freed\n"
    assert done.stdout.count("its user has a running job") == 2
    assert {path.name for path in cache.glob("*.sqsh")} == {"old.sqsh", "new.sqsh"}
