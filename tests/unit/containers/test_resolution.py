from __future__ import annotations

import os
import time

import pytest

from slurm_fsx_tools.containers.catalogue import Catalogue
from slurm_fsx_tools.containers.plugin import slurm_fsx_resolve_container
from slurm_fsx_tools.containers.resolution import answers, nearest_names, resolve
from slurm_fsx_tools.errors import ImageNotFound, InvalidName, SharedFsUnavailable

HEX = "0123456789abcdef" * 4
PYTORCH = ("nvcr.io_nvidia_pytorch-24.01-py3", "nvcr.io_nvidia_pytorch-24.03-py3")


def found(site, name: str) -> str:
    """Give the stem of the file that a name means."""
    image = resolve(name, site.catalogue(), site.config)
    assert image.path.startswith(f"{site.folder}/")
    return os.path.basename(image.path)[: -len(".sqsh")]


def refusal(site, name: str) -> str:
    with pytest.raises(ImageNotFound) as error:
        resolve(name, site.catalogue(), site.config)
    assert str(error.value).isprintable()
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        pytest.param("pytorch", "nvcr.io_nvidia_pytorch-24.03-py3", id="highest-tag"),
        pytest.param("pytorch:no_exec", "nvcr.io_nvidia_pytorch-24.03-py3", id="pyxis-flag"),
        pytest.param("pytorch-24.01", "nvcr.io_nvidia_pytorch-24.01-py3", id="pin"),
        pytest.param("pytorch-24", "nvcr.io_nvidia_pytorch-24.03-py3", id="pin-to-the-highest"),
        pytest.param("pytorch-24.01-py3", "nvcr.io_nvidia_pytorch-24.01-py3", id="whole-tag"),
        pytest.param("nvcr.io_nvidia_pytorch-24.01-py3", "nvcr.io_nvidia_pytorch-24.01-py3", id="stem"),
    ],
)
def test_a_name_means_what_the_readme_says(site, name: str, stem: str) -> None:
    site.add(*PYTORCH)
    assert found(site, name) == stem


@pytest.mark.parametrize(
    ("tags", "highest"),
    [
        pytest.param(["24.9", "24.10"], "24.10", id="numbers"),
        pytest.param(["24.01", "24.02-rc1"], "24.02-rc1", id="candidate-of-a-later-one"),
        pytest.param(["24.02", "24.02-rc1"], "24.02", id="release-over-candidate"),
        pytest.param(["latest", "24.01"], "24.01", id="version-over-latest"),
        pytest.param(["latest"], "latest", id="latest-alone"),
    ],
)
def test_the_highest_tag_is_what_a_repositorys_name_means(site, tags: list[str], highest: str) -> None:
    site.add(*(f"nvcr.io_nvidia_tool-{tag}" for tag in tags))
    assert found(site, "tool") == f"nvcr.io_nvidia_tool-{highest}"


@pytest.mark.parametrize(
    ("tags", "pin", "meant"),
    [
        pytest.param(["24.10", "24.11"], "24.1", None, id="not-in-the-middle-of-a-number"),
        pytest.param(["24.1", "24.10"], "24.1", "24.1", id="exact-over-longer"),
        pytest.param(["24.1", "24.1-py3"], "24.1", "24.1", id="exact-over-later-longer"),
        pytest.param(["24.1-a", "24.1-b"], "24.1", "24.1-b", id="highest-of-the-longer"),
        pytest.param(["24.1.1", "24.1.2-rc1"], "24.1", "24.1.2-rc1", id="dot"),
        pytest.param(["24.1_a"], "24.1", "24.1_a", id="underscore"),
        pytest.param(["24.1-py3"], "24.1-", None, id="nothing-after-the-dash"),
        pytest.param(["24.1-py3"], "24.1-py", None, id="half-a-word"),
        pytest.param(["latest"], "latest", "latest", id="latest"),
    ],
)
def test_a_pin_ends_where_a_part_of_the_tag_ends(site, tags: list[str], pin: str, meant: str | None) -> None:
    site.add(*(f"nvcr.io_nvidia_tool-{tag}" for tag in tags))
    if meant is None:
        refusal(site, f"tool-{pin}")
    else:
        assert found(site, f"tool-{pin}") == f"nvcr.io_nvidia_tool-{meant}"


def test_an_alias_comes_first_then_a_stem_then_a_repository_then_a_pin(site) -> None:
    site.add("nvcr.io_nvidia_tool-2.0-x", "nvcr.io_a_tool-2-1")
    assert found(site, "tool-2") == "nvcr.io_nvidia_tool-2.0-x"
    site.add("nvcr.io_nvidia_tool%2D2-0.1")
    assert found(site, "tool-2") == "nvcr.io_nvidia_tool%2D2-0.1"
    site.add("tool-2")
    assert found(site, "tool-2") == "tool-2"
    site.values["containers.aliases"] = {"tool-2": "nvcr.io/a/tool:2-1"}
    assert found(site, "tool-2") == "nvcr.io_a_tool-2-1"


def test_where_a_pin_can_be_divided_in_two_ways_the_longer_repository_counts(site) -> None:
    site.add("nvcr.io_a_tool-2.0-1-x", "nvcr.io_a_tool%2D2.0-1-x")
    assert found(site, "tool-2.0-1") == "nvcr.io_a_tool%2D2.0-1-x"


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("nvcr.io/nvidia/pytorch:24.01-py3", id="image"),
        pytest.param("docker://nvcr.io/nvidia/pytorch:24.01-py3", id="uri"),
        pytest.param("docker://nvcr.io#nvidia/pytorch:24.01-py3", id="enroots-uri"),
        pytest.param("nvcr.io_nvidia_pytorch-24.01-py3", id="stem"),
        pytest.param("nvcr.io_nvidia_pytorch-24.01-py3.sqsh", id="file"),
    ],
)
def test_an_alias_names_an_image_or_a_file(site, value: str) -> None:
    site.add(*PYTORCH)
    site.values["containers.aliases"] = {"pytorch": value}
    assert found(site, "pytorch") == "nvcr.io_nvidia_pytorch-24.01-py3"


def test_an_alias_to_an_image_that_is_not_there_says_so_and_how_to_import_it(site) -> None:
    site.add(*PYTORCH)
    site.values["containers.aliases"] = {"pytorch": "nvcr.io/nvidia/pytorch:25.01-py3"}
    assert refusal(site, "pytorch") == (
        f"the alias 'pytorch' means nvcr.io/nvidia/pytorch:25.01-py3, which is not in {site.folder}; "
        f"to import it, run: enroot import --output {site.folder}/nvcr.io_nvidia_pytorch-25.01-py3.sqsh "
        "'docker://nvcr.io#nvidia/pytorch:25.01-py3'"
    )


def test_an_alias_that_is_no_images_name_says_so(site) -> None:
    site.values["containers.aliases"] = {"pytorch": "../../etc/passwd"}
    assert refusal(site, "pytorch").startswith("the alias 'pytorch' is of no use: '../../etc/passwd' has no valid")


TWO = ("nvcr.io_nvidia_pytorch-24.03-py3", "docker.io_pytorch_pytorch-2.1")


@pytest.mark.parametrize(
    ("prefer", "stem"),
    [
        pytest.param(["nvcr.io/nvidia"], TWO[0], id="namespace"),
        pytest.param(["docker.io"], TWO[1], id="registry"),
        pytest.param(["docker://docker.io/pytorch/"], TWO[1], id="as-a-uri"),
        pytest.param(["quay.io/x", "docker.io/pytorch", "nvcr.io"], TWO[1], id="the-first-that-has-one"),
        pytest.param(["docker.io/pytorch/pytorch"], TWO[1], id="whole-repository"),
        pytest.param(["nvcr.io/nvid", "docker"], None, id="whole-components-only"),
        pytest.param([], None, id="none"),
    ],
)
def test_the_preferred_namespace_decides_between_two(site, prefer: list[str], stem: str | None) -> None:
    site.add(*TWO)
    site.values["containers.prefer"] = prefer
    if stem:
        assert found(site, "pytorch") == stem
    else:
        text = refusal(site, "pytorch")
        assert text.startswith("'pytorch' could be docker.io_pytorch_pytorch-2.1 or nvcr.io_nvidia_pytorch-24.03-py3;")
        assert "containers.prefer" in text


def test_the_preferred_namespace_decides_among_those_that_have_the_pin(site) -> None:
    site.add(*TWO)
    assert found(site, "pytorch-2.1") == TWO[1]


def test_an_exact_tag_in_another_namespace_wins_over_a_longer_one_in_the_preferred(site) -> None:
    site.add("nvcr.io_nvidia_pytorch-2.1-py3", "docker.io_pytorch_pytorch-2.1")
    assert found(site, "pytorch-2.1") == "docker.io_pytorch_pytorch-2.1"


def test_a_link_and_its_target_are_no_contradiction(site) -> None:
    site.values["containers.prefer"] = []
    site.add("nvcr.io_nvidia_pytorch-24.03-py3")
    (site.folder / "pytorch-stable.sqsh").symlink_to("nvcr.io_nvidia_pytorch-24.03-py3.sqsh")
    assert found(site, "pytorch") == "nvcr.io_nvidia_pytorch-24.03-py3"


def test_many_contenders_are_not_all_listed(site) -> None:
    site.values["containers.prefer"] = []
    site.add(*(f"nvcr.io_n{number}_tool-1" for number in range(30)))
    assert "nvcr.io_n16_tool-1 or 22 others" in refusal(site, "tool")


def test_a_tag_without_digest_means_the_image_without_and_two_digests_are_ambiguous(site) -> None:
    digests = [f"nvcr.io_nvidia_tool-1@sha256-{HEX}", f"nvcr.io_nvidia_tool-1@sha256-{HEX[::-1]}"]
    site.add(*digests)
    assert "could be" in refusal(site, "tool-1")
    site.add("nvcr.io_nvidia_tool-1")
    assert found(site, "tool-1") == found(site, "tool") == "nvcr.io_nvidia_tool-1"
    assert found(site, digests[0]) == digests[0]


def test_two_files_that_spell_the_same_image_give_the_same_answer_every_time(site) -> None:
    site.add("nvcr.io_nvidia_to-ol-1", "nvcr.io_nvidia_to%2Dol-1")
    assert found(site, "to-ol") == "nvcr.io_nvidia_to%2Dol-1"


def test_what_enroot_names_by_itself_is_found(site) -> None:
    site.add("nvidia+pytorch+24.01-py3")
    assert found(site, "pytorch") == found(site, "pytorch-24.01") == "nvidia+pytorch+24.01-py3"


def test_a_broken_image_is_passed_over_and_named_when_nothing_else_is_left(site) -> None:
    site.add("nvcr.io_nvidia_pytorch-24.01-py3")
    site.add("nvcr.io_nvidia_pytorch-24.03-py3", content=b"half")
    assert found(site, "pytorch") == "nvcr.io_nvidia_pytorch-24.01-py3"
    assert refusal(site, "pytorch-24.03") == (
        "no image is called 'pytorch-24.03': nvcr.io_nvidia_pytorch-24.03-py3.sqsh is not used: no squashfs image; "
        "see: slurm-fsx containers list"
    )


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        pytest.param("pytroch", ["pytorch", "pytorch-24"], id="letters-swapped"),
        pytest.param("PyTorch", ["pytorch"], id="capitals"),
        pytest.param("pytroch-24.01", ["pytorch-24.01"], id="pin-of-a-misspelt-name"),
        pytest.param("pytorch-24.02", ["pytorch-24.03"], id="pin-that-is-not-there"),
        pytest.param("nvcr.io_nvidia_pytorch-24.02-py3", ["nvcr.io_nvidia_pytorch-24.03-py3"], id="stem"),
        pytest.param("torch", ["pytorch"], id="part"),
        pytest.param("qqqq", [], id="nothing-like-it"),
    ],
)
def test_a_name_that_means_nothing_is_answered_with_the_nearest_ones(site, name: str, nearest: list[str]) -> None:
    site.add(*PYTORCH, "nvcr.io_nvidia_nemo-24.01")
    names = nearest_names(name, site.catalogue(), site.config)
    assert len(names) <= 3
    assert set(nearest) <= set(names)
    assert names == nearest_names(name, site.catalogue(), site.config)
    text = refusal(site, name)
    assert text.startswith(f"no image is called {name!r}; ")
    assert text.endswith(f"nearest: {', '.join(names)}" if names else "see: slurm-fsx containers list")


def test_the_nearest_names_all_mean_something(site) -> None:
    site.add("nvcr.io_nvidia_pytorch-24.01-py3")
    site.add("nvcr.io_nvidia_pytorcg-24.01-py3", content=b"half")
    names = nearest_names("pytorc", site.catalogue(), site.config)
    assert "pytorch" in names
    assert not any(name.startswith("pytorcg") for name in names)


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "a\0b", "a\nb", "x" * 300, "--help", "$(id)"])
def test_a_hostile_name_is_refused_before_anything_is_looked_at(site, name: str) -> None:
    with pytest.raises(InvalidName):
        resolve(name, site.catalogue(), site.config)


@pytest.mark.parametrize("name", ["a;rm -rf ~", "a$(id)", "пайторч", "a b", "a'b\"", "a%s%n", "x" * 255])
def test_an_odd_name_is_looked_up_like_any_other(site, name: str) -> None:
    site.add(*PYTORCH)
    assert refusal(site, name).startswith("no image is called ")


def test_an_empty_folder_has_no_names_and_no_trouble(site) -> None:
    assert refusal(site, "pytorch") == "no image is called 'pytorch'; see: slurm-fsx containers list"
    assert answers(site.catalogue(), site.config) == {}


def test_the_built_in_plugin_answers_with_the_path(site) -> None:
    site.add(*PYTORCH)
    path = slurm_fsx_resolve_container("pytorch", site.config)
    assert path == f"{site.folder}/nvcr.io_nvidia_pytorch-24.03-py3.sqsh"


def test_without_a_containers_folder_the_built_in_plugin_says_so(site) -> None:
    site.folder.rmdir()
    with pytest.raises(SharedFsUnavailable):
        slurm_fsx_resolve_container("pytorch", site.config)


def test_one_name_among_ten_thousand_images_looks_into_few_of_them(site) -> None:
    for number in range(10_000):
        site.add(f"nvcr.io_nvidia_tool{number // 5}-24.{number % 5:02}-py3")
    start = time.perf_counter()
    catalogue = site.catalogue()
    assert resolve("tool77", catalogue, site.config).stem == "nvcr.io_nvidia_tool77-24.04-py3"
    assert time.perf_counter() - start < 0.5
    assert len(catalogue.images) == 5


def test_answers_hold_every_name_that_something_claims(site) -> None:
    site.add("nvcr.io_nvidia_tool-1.0-x")
    site.values["containers.aliases"] = {"mine": "nvcr.io/nvidia/tool:1.0-x", "gone": "nvcr.io/a/b", "no:name": "x"}
    found = answers(Catalogue(str(site.folder)), site.config)
    assert sorted(found) == ["gone", "mine", "nvcr.io_nvidia_tool-1.0-x", "tool", "tool-1", "tool-1.0", "tool-1.0-x"]
    assert isinstance(found["gone"], ImageNotFound)
