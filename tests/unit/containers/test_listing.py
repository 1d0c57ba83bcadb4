from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slurm_fsx_tools.containers.index import update_index
from slurm_fsx_tools.containers.listing import (
    FEW,
    LASTING_S,
    WRITTEN_IN_PLACE_S,
    Listing,
    format_listing,
    list_anew,
    list_images,
)
from slurm_fsx_tools.containers.store import Store

NOW_S = 1_700_000_000.0
OLD_S = NOW_S - 2 * WRITTEN_IN_PLACE_S


def store(site) -> Store:
    return Store(str(site.folder))


def age(site, modified_s: float = OLD_S) -> None:
    for path in site.folder.glob("*.sqsh"):
        os.utime(path, (modified_s, modified_s), follow_symlinks=False)


def keep(site, now_s: float = NOW_S) -> None:
    """Do what root does when it writes the index of a folder that has settled."""
    Path(store(site).state).mkdir(exist_ok=True)
    site.settle()
    Path(store(site).listing_file).write_bytes(format_listing(site.scan(), site.config, now_s))


def warm(site, now_s: float = NOW_S) -> Listing:
    return list_images(store(site), site.config, now_s, few=0)


def cold(site) -> Listing:
    return list_anew(site.scan(), site.config)


def described(listing: Listing) -> SimpleNamespace:
    return SimpleNamespace(
        images=listing.images,
        names={image.stem: listing.names(image) for image in listing.images},
        short_names={name: str(answer) for name, answer in listing.short_names.items()},
        order=list(listing.short_names),
        rejects=listing.rejects,
    )


def is_kept(site, now_s: float = NOW_S) -> bool:
    """Whether a change in place of an old image stays unseen, as it does only by what root has kept."""
    path = next(path for path in sorted(site.folder.glob("*.sqsh")) if path.stat().st_mtime == OLD_S)
    before = path.read_bytes()
    path.write_bytes(before + bytes(1000))
    os.utime(path, (OLD_S + 1, OLD_S + 1))
    sizes = {image.stem: image.size_bytes for image in warm(site, now_s).images}
    path.write_bytes(before)
    os.utime(path, (OLD_S, OLD_S))
    return sizes[path.stem] == len(before)


stems = st.builds(
    lambda space, repository, tag: f"{space}{repository}{tag}",
    st.sampled_from(["nvcr.io_nvidia_", "docker.io_library_", "quay.io_a_b_", ""]),
    st.sampled_from(["tool", "tool-2", "größe", "a b"]),
    st.sampled_from(["", "-1", "-1.0", "-1.0-rc1", "-1.10", "-1.9", "-latest", "-1@sha256-" + "a" * 64]),
)
kinds = st.sampled_from(["old"] * 4 + ["new", "private", "broken", "link", "dangling", "folder", "part"])
aliases = st.dictionaries(
    st.sampled_from(["tool", "tool-1", "mine", "no:name"]),
    st.one_of(stems, st.sampled_from(["nvcr.io/nvidia/tool:1.0", "not a\nname"])),
    max_size=2,
)


def add(site, stem: str, kind: str, target: str) -> None:
    path = site.folder / f"{stem}.sqsh"
    if kind == "folder":
        path.mkdir()
    elif kind in ("link", "dangling"):
        path.symlink_to(f"{target}.sqsh" if kind == "link" else "gone.sqsh")
    elif kind == "part":
        (site.folder / f"{stem}.sqsh.part").write_bytes(b"")
    else:
        site.add(stem, content=b"half" if kind == "broken" else None)
        path.chmod(0o600 if kind == "private" else 0o644)
        modified_s = NOW_S if kind == "new" else OLD_S
        os.utime(path, (modified_s, modified_s))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(stems, kinds, max_size=8), aliases, st.booleans(), st.data())
def test_what_is_kept_says_the_same_as_a_look_into_every_file(
    make_site, files: dict[str, str], wanted: dict[str, str], prefers: bool, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as place:
        site = make_site(Path(place) / "fsx")
        for stem in sorted(files):
            add(site, stem, files[stem], min(files))
        site.values.update({"containers.aliases": wanted, "containers.prefer": ["nvcr.io/nvidia"] if prefers else []})
        keep(site)
        assert described(warm(site)) == described(cold(site))
        # Files that root found no lasting image may change in place: that is seen at once.
        for stem in [stem for stem, kind in sorted(files.items()) if kind in ("new", "broken", "private")]:
            change = data.draw(st.sampled_from(["stays", "whole", "broken"]))
            if change != "stays":
                site.add(stem, content=b"half" if change == "broken" else None)
        assert described(warm(site)) == described(cold(site))


def test_an_old_image_is_not_looked_at_again_for_a_day(site) -> None:
    site.add("tool-1", "tool-2")
    age(site)
    keep(site)
    assert is_kept(site)
    assert is_kept(site, NOW_S + LASTING_S - 1)
    assert not is_kept(site, NOW_S + LASTING_S + 1)
    assert not is_kept(site, NOW_S - LASTING_S - 1)


def test_a_folder_with_few_images_is_looked_at_each_time(site) -> None:
    site.add(*(f"tool-{number}" for number in range(FEW - 1)))
    age(site)
    keep(site)
    (site.folder / "tool-0.sqsh").write_bytes(b"half")
    assert len(list_images(store(site), site.config, NOW_S).images) == FEW - 2


def test_an_image_that_comes_or_goes_is_seen_at_once(site) -> None:
    site.add("tool-1", "tool-2")
    age(site)
    keep(site)
    site.add("tool-3")
    assert [image.stem for image in warm(site).images] == ["tool-1", "tool-2", "tool-3"]


def test_another_configuration_is_another_listing(site) -> None:
    from slurm_fsx_tools.config.model import Config

    site.add("tool-1", "tool-2")
    age(site)
    keep(site)
    config = Config({**site.values, "containers.aliases": {"best": "tool-1.sqsh"}}, policy="other")
    assert list_images(store(site), config, NOW_S, few=0).short_names["best"].stem == "tool-1"


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda path: path.chmod(0o666), id="others-may-write"),
        pytest.param(lambda path: path.rename(path.with_name("x")) and path.symlink_to("x"), id="link"),
        pytest.param(lambda path: path.unlink() or os.mkfifo(path), id="fifo"),
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_bytes(b"\xff\n" * 20), id="no-utf-8"),
        pytest.param(lambda path: path.write_bytes(b"\n".join(path.read_bytes().split(b"\n")[:4])), id="cut"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-9]), id="cut-in-the-last-line"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes().replace(b"{", b"[", 1)), id="no-json"),
        pytest.param(
            lambda path: path.write_bytes(path.read_bytes().replace(b"listing 1", b"listing 2")), id="version"
        ),
        pytest.param(lambda path: path.write_bytes(path.read_bytes().replace(b"\t", b"", 1)), id="column-too-short"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes().replace(b"policy=", b"p=")), id="no-policy"),
    ],
)
def test_what_was_spoilt_is_not_believed(site, spoil) -> None:
    site.add("tool-1", "tool-2")
    age(site)
    keep(site)
    assert is_kept(site)
    spoil(Path(store(site).listing_file))
    assert not is_kept(site)
    assert described(warm(site)) == described(cold(site))


def test_the_index_and_what_is_kept_are_written_together(site) -> None:
    site.add("tool-1", "tool-2")
    age(site)
    Path(store(site).state).mkdir()
    site.settle()
    update_index(site.config, must_ask=False)
    now_s = Path(store(site).listing_file).stat().st_mtime
    assert is_kept(site, now_s)


def test_of_a_folder_that_never_settles_nothing_is_kept(site) -> None:
    site.add("tool-1", "tool-2")
    age(site)
    update_index(site.config, must_ask=False, sleep=lambda _: os.utime(site.folder))
    assert Path(store(site).listing_file).read_bytes() == b""


def test_ten_thousand_images_are_kept_as_they_are(site) -> None:
    site.add(*(f"nvcr.io_nvidia_tool{number // 5}-24.{number % 5:02}-py3" for number in range(10_000)))
    age(site)
    keep(site)
    kept, anew = list_images(store(site), site.config, NOW_S), cold(site)
    assert described(kept) == described(anew)
    assert len(kept.images) == 10_000
