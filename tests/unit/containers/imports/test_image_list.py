from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from slurm_fsx_tools.containers.imports.image_list import ImageList
from slurm_fsx_tools.containers.names import ImageName


def test_uris_come_in_their_order_and_each_once() -> None:
    images = ImageList.parse("b.io/x:2\n\n# a comment\n  docker://a.io/x:1  # why\nb.io/x:2\n#b.io/y:1\n", "list")
    assert images == ImageList((ImageName.parse("b.io/x:2"), ImageName.parse("a.io/x:1")), ())


def test_enroots_own_syntax_has_a_hash_that_begins_no_comment() -> None:
    assert ImageList.parse("docker://nvcr.io#nvidia/pytorch:24.01-py3", "list").images == (
        ImageName.parse("nvcr.io/nvidia/pytorch:24.01-py3"),
    )


def test_a_bad_line_is_told_with_its_place_and_the_rest_is_done() -> None:
    images = ImageList.parse(f"a.io/x:1\nA.io/UPPER\na.io/x:1 b.io/y:1\na.io/{'x' * 300}\r\nb.io/y:1\r\n", "list.txt")
    assert [str(name) for name in images.images] == ["a.io/x:1", "b.io/y:1"]
    assert [str(mistake) for mistake in images.mistakes] == [
        "list.txt:2: 'A.io/UPPER' has no valid repository",
        "list.txt:3: 'a.io/x:1 b.io/y:1' is more than one URI",
        f"list.txt:4: 'a.io/{'x' * 75}'... is too long for a file's name, which has at most 255 bytes",
    ]


@given(st.text())
def test_no_text_breaks_it_and_every_line_counts_once(text: str) -> None:
    images = ImageList.parse(text, "list")
    lines = [line for line in text.split("\n") if line.split()]
    assert len(images.images) + len(images.mistakes) <= len(lines)
    assert all(1 <= mistake.number <= text.count("\n") + 1 for mistake in images.mistakes)


def test_the_list_that_we_ship_has_no_mistake(checkout: Path) -> None:
    text = (checkout / "share/containers.txt").read_text()
    images = ImageList.parse(text, "containers.txt")
    assert [str(name) for name in images.images] == ["nvcr.io/nvidia/pytorch:24.01-py3", "nvcr.io/nvidia/nemo:24.01"]
    assert images.mistakes == ()
    with_examples = ImageList.parse(text.replace("# docker://", "docker://"), "containers.txt")
    assert {name.short_name for name in with_examples.images} >= {"tensorflow", "jax", "tritonserver"}
    assert with_examples.mistakes == ()
