from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
import yaml

from slurm_fsx_tools.containers.index import is_fresh, read_index
from slurm_fsx_tools.errors import ImageNotFound, InvalidName

if TYPE_CHECKING:
    from .conftest import Cluster

IMAGE = b"hsqs" + bytes(24) + b"\4\0" + bytes(10) + b"\x60" + bytes(55)
OLD = "nvcr.io_nvidia_pytorch-24.01-py3"
NEW = "nvcr.io_nvidia_pytorch-24.03-py3"

CHOOSES = """
from slurm_fsx_tools import hookimpl

@hookimpl
def slurm_fsx_resolve_container(name, partition):
    return "/site/debug.sqsh" if (name, partition) == ("pytorch", "debug") else None
"""


def test_resolve_prints_the_path_and_nothing_else(cluster: Cluster) -> None:
    done = cluster.run("resolve", "pytorch")
    assert (done.exit_code, done.stdout) == (0, cluster.path(NEW) + "\n")


def test_resolve_cuts_pyxis_flags_off(cluster: Cluster) -> None:
    assert cluster.run("resolve", "pytorch-24.01:no_exec").stdout == cluster.path(OLD) + "\n"


def test_resolve_of_an_unknown_name_names_the_nearest(cluster: Cluster) -> None:
    done = cluster.run("resolve", "pytroch")
    assert done.exit_code == 1
    assert isinstance(done.exception, ImageNotFound)
    assert str(done.exception).startswith("no image is called 'pytroch'; nearest: pytorch, ")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        pytest.param("pytroch", "slurm-fsx: no image is called 'pytroch'; nearest: pytorch, ", id="unknown"),
        pytest.param("../x", "slurm-fsx: '../x' is no name of an image; ", id="climbs"),
        pytest.param("a\nb", "slurm-fsx: 'a\\nb' is no name of an image; ", id="newline"),
        pytest.param("--help", "slurm-fsx: '--help' is no name of an image; ", id="option"),
        pytest.param("x" * 300, "slurm-fsx: 'xxx", id="300-characters"),
        pytest.param("a\udcff", "slurm-fsx: 'a\\udcff' is no name of an image; ", id="no-utf-8"),
    ],
)
def test_at_submission_a_miss_is_one_line_on_stderr(cluster: Cluster, name: str, line: str) -> None:
    done = cluster.run("resolve", "--submit", "--", name)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1


def test_at_submission_a_missing_folder_is_one_line_on_stderr(cluster: Cluster) -> None:
    for file in cluster.folder.iterdir():
        file.unlink()
    cluster.folder.rmdir()
    done = cluster.run("resolve", "--submit", "--", "pytorch")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"slurm-fsx: the containers folder {cluster.folder} cannot be listed: No such file")


def test_at_submission_a_broken_configuration_or_plugin_does_not_stop_the_answer(cluster: Cluster) -> None:
    (cluster.plugins / "broken.py").write_text("raise RuntimeError")
    done = cluster.run("resolve", "--submit", "--", "pytorch")
    assert (done.exit_code, done.stdout) == (0, cluster.path(NEW) + "\n")
    cluster.config.write_text("fsx: [")
    done = cluster.run("resolve", "--submit", "--", "no-image-of-this-name")
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1


def test_a_site_plugin_is_asked_first_with_the_partition(cluster: Cluster) -> None:
    (cluster.plugins / "site.py").write_text(CHOOSES)
    assert cluster.run("resolve", "pytorch", "--partition", "debug").stdout == "/site/debug.sqsh\n"
    assert cluster.run("resolve", "pytorch", "--partition", "gpu").stdout == cluster.path(NEW) + "\n"
    assert cluster.run("resolve", "pytorch").stdout == cluster.path(NEW) + "\n"


@pytest.mark.parametrize("answer", ["x.sqsh", "", 7, "/a\nb", "/a\0b"])
def test_a_site_plugins_answer_that_is_no_path_is_not_printed(cluster: Cluster, answer: object) -> None:
    (cluster.plugins / "site.py").write_text(CHOOSES.replace('"/site/debug.sqsh"', repr(answer)))
    done = cluster.run("resolve", "pytorch", "--partition", "debug", "--submit")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "which is no absolute path" in done.stderr


def test_where_the_built_in_plugin_is_off_and_no_other_answers_resolve_says_so(cluster: Cluster) -> None:
    values = yaml.safe_load(cluster.config.read_text())
    values["prolog"]["block"] = ["containers"]
    cluster.config.write_text(yaml.dump(values))
    assert cluster.run("resolve", "pytorch", "--submit").stderr == (
        "slurm-fsx: no plugin knows an image called 'pytorch'; see: slurm-fsx plugins list\n"
    )


def test_resolve_gives_json_for_a_hit_and_for_a_miss(cluster: Cluster) -> None:
    os.utime(cluster.path(OLD), (0, 0))
    hit = json.loads(cluster.run("resolve", "pytorch-24.01", "--json").stdout)
    assert hit == {
        "name": "pytorch-24.01",
        "path": cluster.path(OLD),
        "uri": "docker://nvcr.io/nvidia/pytorch:24.01-py3",
        "tag": "24.01-py3",
        "digest": None,
        "size_bytes": len(IMAGE),
        "modified": "1970-01-01T00:00:00Z",
    }
    done = cluster.run("resolve", "pytroch", "--json")
    miss = json.loads(done.stdout)
    assert done.exit_code == 1
    assert (miss["path"], miss["error"]) == (None, "no image is called 'pytroch'")
    assert miss["nearest"][0] == "pytorch"


def test_resolve_gives_json_for_a_file_elsewhere(cluster: Cluster) -> None:
    (cluster.plugins / "site.py").write_text(CHOOSES)
    hit = json.loads(cluster.run("resolve", "pytorch", "--partition", "debug", "--json").stdout)
    assert (hit["path"], hit["uri"], hit["size_bytes"]) == ("/site/debug.sqsh", None, None)


def test_an_invalid_name_is_an_error_of_its_own(cluster: Cluster) -> None:
    assert isinstance(cluster.run("resolve", "a/b").exception, InvalidName)


def test_list_shows_images_then_short_names_and_on_stderr_what_is_not_used(cluster: Cluster) -> None:
    cluster.add("docker.io_pytorch_tool-1", "quay.io_x_tool-1")
    cluster.add("half-1", content=b"hsqs")
    cluster.configure({"aliases": {"mine": "nvcr.io/nvidia/pytorch:24.01-py3", "gone": "nvcr.io/a/b:1"}})
    os.utime(cluster.path(OLD), (1_700_000_000, 1_700_000_000))
    done = cluster.run("list")
    assert done.exit_code == 0
    images, short = done.stdout.split("\n\n")
    assert images.splitlines()[0].split() == ["name", "tag", "size", "date", "file"]
    rows = {line.split()[0]: line for line in images.splitlines()[1:]}
    assert set(rows) == {"mine", "pytorch", "docker.io_pytorch_tool-1", "quay.io_x_tool-1"}
    assert rows["mine"].split()[1:4] == ["24.01-py3", f"{len(IMAGE)}", "B"]
    assert rows["mine"].endswith(f"{OLD}.sqsh")
    meanings = dict(line.split("  ", 1) for line in short.splitlines()[1:])
    assert meanings["pytorch"].strip() == f"{NEW}.sqsh"
    assert meanings["mine"].strip() == f"{OLD}.sqsh"
    assert meanings["tool"].strip().startswith("nothing: 'tool' could be docker.io_pytorch_tool-1 or quay.io_x_tool-1")
    assert meanings["gone"].strip().startswith("nothing: the alias 'gone' means nvcr.io/a/b:1, which is not in ")
    assert done.stderr == "slurm-fsx: half-1.sqsh is not used: not complete: only 4 bytes are there\n"


def test_list_puts_versions_in_their_order(cluster: Cluster) -> None:
    cluster.add("nvcr.io_nvidia_pytorch-24.10-py3", "nvcr.io_nvidia_pytorch-24.9-py3")
    tags = [line.split()[1] for line in cluster.run("list").stdout.split("\n\n")[0].splitlines()[1:]]
    assert tags == ["24.01-py3", "24.03-py3", "24.9-py3", "24.10-py3"]


def test_list_says_when_a_site_plugin_has_a_say(cluster: Cluster) -> None:
    (cluster.plugins / "site.py").write_text(CHOOSES)
    assert "site plugins are asked first, and may choose otherwise: site\n" in cluster.run("list").stderr


def test_list_escapes_what_could_steer_a_terminal(cluster: Cluster) -> None:
    cluster.add("a\x1b[2Jb", os.fsdecode(b"a\xff"))
    done = cluster.run("list")
    assert "a\\x1b[2Jb.sqsh is not used: a name with characters that cannot be printed" in done.stderr
    assert "a\\udcff.sqsh is not used" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_list_gives_json_with_every_name_of_an_image(cluster: Cluster) -> None:
    cluster.add("half-1", content=b"hsqs")
    (cluster.folder / "stable.sqsh").symlink_to(f"{OLD}.sqsh")
    document = json.loads(cluster.run("list", "--json").stdout)
    assert document["folder"] == str(cluster.folder)
    by_name = {image["names"][0]: image for image in document["images"]}
    assert set(by_name) == {"pytorch", "pytorch-24.01", "stable"}
    assert by_name["pytorch"]["names"] == [
        "pytorch", "pytorch-24", "pytorch-24.03", "pytorch-24.03-py3", NEW
    ]  # fmt: skip
    assert by_name["stable"]["path"] == cluster.path(OLD)
    assert by_name["pytorch"]["registry"] == "nvcr.io"
    assert document["short_names"] == {"pytorch": {"path": cluster.path(NEW)}, "stable": {"path": cluster.path(OLD)}}
    assert document["rejects"] == [{"file": "half-1.sqsh", "reason": "not complete: only 4 bytes are there"}]


@pytest.mark.usefixtures("needs_root")
class TestIndex:
    """Everything about the index that the command adds; for root."""

    @pytest.fixture(autouse=True)
    def settled(self, cluster: Cluster) -> None:
        (cluster.folder / ".slurm-fsx").mkdir()
        os.utime(cluster.folder, (1_700_000_000, 1_700_000_000))

    def test_it_is_written_for_readers_to_believe(self, cluster: Cluster) -> None:
        done = cluster.run("index")
        path = f"{cluster.folder}/.slurm-fsx/index"
        assert done.stdout == f"8 names of 2 images: {path}\n"
        index = read_index(path)
        assert is_fresh(index, str(cluster.folder), "default")
        assert index.look_up("pytorch") == cluster.path(NEW)

    def test_it_says_that_readers_must_ask_where_a_site_plugin_has_a_say(self, cluster: Cluster) -> None:
        (cluster.plugins / "site.py").write_text(CHOOSES)
        done = cluster.run("index")
        assert read_index(f"{cluster.folder}/.slurm-fsx/index").must_ask
        assert "because of the site's say in names (site), each submission asks" in done.stderr

    def test_it_says_that_readers_must_ask_where_a_plugin_could_not_be_loaded(self, cluster: Cluster) -> None:
        (cluster.plugins / "broken.py").write_text("raise RuntimeError('no')")
        done = cluster.run("index")
        assert read_index(f"{cluster.folder}/.slurm-fsx/index").must_ask
        assert "broken" in done.stderr
