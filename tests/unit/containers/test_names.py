from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from slurm_fsx_tools.containers.names import SUFFIX, ContainerName, ImageName, tag_order, tag_prefixes
from slurm_fsx_tools.errors import InvalidImageName, InvalidName

HEX = "0123456789abcdef" * 4

hosts = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?){1,3}", fullmatch=True)
registries = st.one_of(
    st.sampled_from(["docker.io", "nvcr.io", "localhost", "localhost:5000", "10.0.0.1", "10.0.0.1:5000", "a.b", "r:1"]),
    hosts,
    st.builds(lambda host, port: f"{host}:{port}", hosts, st.integers(1, 65535)),
)
components = st.from_regex(r"[a-z0-9]{1,4}((\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}", fullmatch=True)
repositories = st.lists(components, min_size=1, max_size=3).map("/".join)
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,12}", fullmatch=True)
digests = st.text("0123456789abcdef", min_size=64, max_size=64).map("sha256:{}".format)
uris = st.builds(
    lambda registry, repository, tag, digest: f"docker://{registry}/{repository}{tag}{digest}",
    registries,
    repositories,
    st.one_of(st.just(""), tags.map(":{}".format)),
    st.one_of(st.just(""), digests.map("@{}".format)),
)


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        pytest.param(
            "docker://nvcr.io/nvidia/pytorch:24.01-py3", ("nvcr.io", "nvidia/pytorch", "24.01-py3", ""), id="full"
        ),
        pytest.param("nvcr.io/nvidia/nemo", ("nvcr.io", "nvidia/nemo", "latest", ""), id="no-scheme-no-tag"),
        pytest.param("ubuntu", ("docker.io", "library/ubuntu", "latest", ""), id="one-part"),
        pytest.param("docker.io/ubuntu:22.04", ("docker.io", "library/ubuntu", "22.04", ""), id="docker-hub-one-part"),
        pytest.param("index.docker.io/a/b", ("docker.io", "a/b", "latest", ""), id="another-name-of-docker-hub"),
        pytest.param("pytorch/pytorch:2.1", ("docker.io", "pytorch/pytorch", "2.1", ""), id="docker-hub-namespace"),
        pytest.param("localhost/a:1", ("localhost", "a", "1", ""), id="localhost"),
        pytest.param("registry:5000/team/a:1", ("registry:5000", "team/a", "1", ""), id="port"),
        pytest.param("docker://NVCR.IO/nvidia/nemo:1", ("nvcr.io", "nvidia/nemo", "1", ""), id="host-in-capitals"),
        pytest.param("docker://nvcr.io#nvidia/nemo:1", ("nvcr.io", "nvidia/nemo", "1", ""), id="enroot"),
        pytest.param(f"nvcr.io/a/b@sha256:{HEX}", ("nvcr.io", "a/b", "", f"sha256:{HEX}"), id="digest"),
        pytest.param(f"nvcr.io/a/b:1@sha256:{HEX}", ("nvcr.io", "a/b", "1", f"sha256:{HEX}"), id="tag-and-digest"),
    ],
)
def test_a_uri_is_read_into_its_parts(uri: str, name: tuple[str, ...]) -> None:
    assert ImageName.parse(uri) == name


@pytest.mark.parametrize(
    "uri",
    [
        pytest.param("", id="empty"),
        pytest.param("docker://", id="scheme-only"),
        pytest.param("docker://nvcr.io/", id="no-repository"),
        pytest.param("https://nvcr.io/a/b", id="another-scheme"),
        pytest.param("dockerd://a:b", id="docker-daemon"),
        pytest.param("nvcr.io/nvidia/../../etc/passwd", id="dots"),
        pytest.param("nvcr.io//a", id="double-slash"),
        pytest.param("nvcr.io/a/b:", id="empty-tag"),
        pytest.param("nvcr.io/a/b:-1", id="tag-with-a-dash-first"),
        pytest.param("nvcr.io/a/b:" + "1" * 129, id="long-tag"),
        pytest.param("nvcr.io/a/b:1:2", id="two-tags"),
        pytest.param("nvcr.io/A/b", id="capitals"),
        pytest.param("nvcr.io/a b", id="blank"),
        pytest.param("nvcr.io/a\nb", id="newline"),
        pytest.param("nvcr.io/a\0b", id="nul"),
        pytest.param("nvcr.io/a;rm", id="shell"),
        pytest.param("nvcr.io/pytörch", id="unicode"),
        pytest.param("nvcr.io/a:²", id="digit-that-is-none"),
        pytest.param("nvcr.io:port/a", id="port-without-digits"),
        pytest.param("-x.io/a", id="host-with-a-dash-first"),
        pytest.param("host#a", id="registry-without-a-dot"),
        pytest.param("me@nvcr.io#a/b", id="user"),
        pytest.param("nvcr.io/a@sha256:12", id="short-digest"),
        pytest.param("nvcr.io/a@md5:" + HEX, id="other-digest"),
        pytest.param("nvcr.io/a@", id="empty-digest"),
    ],
)
def test_a_uri_that_no_registry_would_accept_is_refused_in_one_line(uri: str) -> None:
    with pytest.raises(InvalidImageName) as refusal:
        ImageName.parse(uri)
    assert str(refusal.value).isprintable()
    assert refusal.value.hint


@pytest.mark.parametrize(
    ("uri", "file_name"),
    [
        pytest.param(
            "docker://nvcr.io/nvidia/pytorch:24.01-py3", "nvcr.io_nvidia_pytorch-24.01-py3.sqsh", id="documented"
        ),
        pytest.param("nvcr.io/nvidia/nemo:24.01", "nvcr.io_nvidia_nemo-24.01.sqsh", id="documented-too"),
        pytest.param("nvcr.io/nvidia/nemo", "nvcr.io_nvidia_nemo-latest.sqsh", id="no-tag"),
        pytest.param("ubuntu:22.04", "docker.io_library_ubuntu-22.04.sqsh", id="docker-hub"),
        pytest.param("localhost:5000/a:1", "localhost%3A5000_a-1.sqsh", id="port"),
        pytest.param("nvcr.io/a/b/c/d:1", "nvcr.io_a_b_c_d-1.sqsh", id="nested"),
        pytest.param("nvcr.io/a/b-c:1", "nvcr.io_a_b-c-1.sqsh", id="dash-in-repository"),
        pytest.param("nvcr.io/a/b-c:main", "nvcr.io_a_b-c-main.sqsh", id="dash-in-repository-and-word-for-tag"),
        pytest.param("nvcr.io/a/b-2:1", "nvcr.io_a_b%2D2-1.sqsh", id="dash-before-a-digit-in-repository"),
        pytest.param("nvcr.io/a_b/c:1", "nvcr.io_a%5Fb_c-1.sqsh", id="underscore-in-repository"),
        pytest.param("nvcr.io/a/b:py3-x", "nvcr.io_a_b-py3%2Dx.sqsh", id="dash-in-a-tag-that-begins-with-a-word"),
        pytest.param("nvcr.io/a/b:1_2", "nvcr.io_a_b-1_2.sqsh", id="underscore-in-tag"),
        pytest.param("node.x1/a:1", "node%2Ex1_a-1.sqsh", id="host-that-does-not-look-like-one"),
        pytest.param(f"nvcr.io/a/b:1@sha256:{HEX}", f"nvcr.io_a_b-1@sha256-{HEX}.sqsh", id="digest"),
        pytest.param(f"nvcr.io/a/b-c@sha256:{HEX}", f"nvcr.io_a_b%2Dc@sha256-{HEX}.sqsh", id="digest-without-tag"),
    ],
)
def test_an_image_is_filed_under_its_registry_repository_and_tag(uri: str, file_name: str) -> None:
    assert ImageName.parse(uri).file_name == file_name


@given(uris)
@example("docker://a.b1/c:1")
@example("docker://localhost:5000/a_b-2/c--d:py3-24.01")
@example(f"docker://nvcr.io/a-1@sha256:{HEX}")
def test_reading_a_files_name_undoes_writing_it_so_no_two_images_share_a_file(uri: str) -> None:
    name = ImageName.parse(uri)
    file_name = name.file_name
    assert file_name.endswith(SUFFIX)
    assert ImageName.from_file_name(file_name[: -len(SUFFIX)]) == name
    assert not set(file_name) & set("/:\0\n")
    assert ImageName.parse(name.uri) == name


@given(
    st.one_of(
        st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40),
        st.text("a1.-_+%@25FDE:", min_size=1, max_size=24),
        st.lists(st.sampled_from(["nvcr.io", "_", "-", "+", "a", "1", "%2D", "%2F", "%3A", "@sha256-" + HEX])).map(
            lambda parts: "".join(parts)[:100] or "x"
        ),
    )
)
def test_every_files_name_is_some_images_and_that_image_has_one_files_name(stem: str) -> None:
    name = ImageName.from_file_name(stem)
    assert ImageName.from_file_name(name.file_name[: -len(SUFFIX)]) == name


@given(st.lists(uris, min_size=2, max_size=6))
def test_different_images_have_different_files(several: list[str]) -> None:
    for one, other in combinations({ImageName.parse(uri) for uri in several}, 2):
        assert one.file_name != other.file_name


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        pytest.param("nvcr.io_nvidia_pytorch-24.01-py3", ("nvcr.io", "nvidia/pytorch", "24.01-py3", ""), id="plain"),
        pytest.param("pytorch-24.01", ("", "pytorch", "24.01", ""), id="local"),
        pytest.param("mytool", ("", "mytool", "", ""), id="no-tag"),
        pytest.param("my_tool-1.0", ("", "my_tool", "1.0", ""), id="local-with-underscore"),
        pytest.param("pytorch-24.01_mine", ("", "pytorch", "24.01_mine", ""), id="version-is-no-registry"),
        pytest.param("my-tool", ("", "my", "tool", ""), id="last-dash"),
        pytest.param("nvidia+pytorch+24.01-py3", ("", "nvidia/pytorch", "24.01-py3", ""), id="enroot"),
        pytest.param("ubuntu+22.04", ("", "ubuntu", "22.04", ""), id="enroot-one-part"),
        pytest.param("localhost%3A5000_a-1", ("localhost:5000", "a", "1", ""), id="port"),
        pytest.param("10.0.0.1_a-1", ("10.0.0.1", "a", "1", ""), id="address"),
        pytest.param("a%ZZb-1", ("", "a%ZZb", "1", ""), id="no-escape-of-ours"),
        pytest.param("a%00b%0A-1", ("", "a%00b%0A", "1", ""), id="no-control-characters-by-escape"),
        pytest.param("-", ("", "-", "", ""), id="dash"),
        pytest.param("nvcr.io_", ("", "nvcr.io_", "", ""), id="registry-alone"),
    ],
)
def test_a_files_name_is_read_into_its_parts(stem: str, name: tuple[str, ...]) -> None:
    assert ImageName.from_file_name(stem) == name


def test_an_image_whose_files_name_would_be_too_long_is_refused() -> None:
    longest = ImageName.parse("nvcr.io/" + "a" * 240 + ":1")
    assert len(longest.file_name) == 255
    with pytest.raises(InvalidImageName, match="255 bytes"):
        _ = ImageName.parse("nvcr.io/" + "a" * 241 + ":1").file_name


def test_a_local_image_has_no_uri() -> None:
    assert ImageName.from_file_name("pytorch-24.01").uri == ""


@pytest.mark.parametrize(
    ("text", "name", "flags"),
    [
        pytest.param("pytorch", "pytorch", "", id="plain"),
        pytest.param("pytorch:no_exec", "pytorch", "no_exec", id="flag"),
        pytest.param("pytorch:a:b", "pytorch", "a:b", id="cut-at-the-first-colon"),
        pytest.param("pytorch-24.01", "pytorch-24.01", "", id="pin"),
        pytest.param("_x", "_x", "", id="underscore-first"),
        pytest.param("pytörch", "pytörch", "", id="unicode"),
        pytest.param("a..b", "a..b", "", id="dots-inside"),
        pytest.param("a;rm -rf $HOME`x`|*", "a;rm -rf $HOME`x`|*", "", id="shell-is-only-text"),
        pytest.param("a" * 255, "a" * 255, "", id="longest"),
    ],
)
def test_a_containers_name_is_cut_off_pyxis_flags(text: str, name: str, flags: str) -> None:
    assert ContainerName.parse(text) == (name, flags)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(":create", id="flag-alone"),
        pytest.param("..", id="parent"),
        pytest.param(".", id="here"),
        pytest.param(".hidden", id="hidden"),
        pytest.param("../../etc/passwd", id="climbs"),
        pytest.param("a/b", id="slash"),
        pytest.param("a\0b", id="nul"),
        pytest.param("a\nb", id="newline"),
        pytest.param("a\tb", id="tab"),
        pytest.param("a\x1b[31mb", id="terminal"),
        pytest.param("a\x7f", id="delete"),
        pytest.param("a\u202eb", id="right-to-left"),
        pytest.param("a\udcffb", id="no-utf-8"),
        pytest.param("#a", id="comment"),
        pytest.param("--help", id="option"),
        pytest.param("$(id)", id="shell"),
        pytest.param(" a", id="blank-first"),
        pytest.param("a" * 256, id="256-bytes"),
        pytest.param("ö" * 128, id="256-bytes-of-unicode"),
        pytest.param("x" * 300, id="300-characters"),
    ],
)
def test_a_containers_name_that_nothing_could_be_called_by_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InvalidName) as refusal:
        ContainerName.parse(text)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        pytest.param("24.01", "24.03", id="months"),
        pytest.param("24.9", "24.10", id="numbers-not-text"),
        pytest.param("v1.9", "v1.10", id="leading-v"),
        pytest.param("1.9", "v1.10", id="one-with-v"),
        pytest.param("1.0-rc1", "1.0", id="candidate"),
        pytest.param("1.0rc1", "1.0", id="candidate-without-dash"),
        pytest.param("1.0-rc9", "1.0-rc10", id="candidates"),
        pytest.param("1.0-alpha", "1.0-beta", id="alpha-beta"),
        pytest.param("1.0-beta2", "1.0-rc1", id="beta-rc"),
        pytest.param("1.0.dev5", "1.0-alpha1", id="dev"),
        pytest.param("24.01-rc1-py3", "24.01-py3", id="candidate-in-the-middle"),
        pytest.param("24.02-RC1", "24.02", id="capitals"),
        pytest.param("24.01-py3", "24.02-rc1", id="candidate-of-a-later-version"),
        pytest.param("24.01", "24.01-py3", id="longer"),
        pytest.param("24.01-py3", "24.01.1", id="point-release"),
        pytest.param("main", "24.01", id="word"),
        pytest.param("latest", "main", id="latest-comes-last"),
        pytest.param("latest", "0.0.1-dev", id="latest-comes-after-a-dev"),
        pytest.param("", "latest", id="no-tag-at-all"),
        pytest.param("20231231", "20240101", id="dates"),
    ],
)
def test_the_newer_version_is_the_higher_tag(older: str, newer: str) -> None:
    assert tag_order(older) < tag_order(newer)


@given(st.lists(st.one_of(tags, st.text(max_size=8), st.sampled_from(["1", "01", "1.0", "1-0", "v1", "latest", ""]))))
def test_the_order_of_tags_is_total_and_does_not_depend_on_where_they_stood(several: list[str]) -> None:
    ranked = sorted(several, key=tag_order)
    several.reverse()
    assert ranked == sorted(several, key=tag_order)
    for one, other in combinations(several, 2):
        # Keys are tuples, so their order is transitive; equal keys mean equal text.
        assert (tag_order(one) == tag_order(other)) == (one == other)


@given(st.text("0123456789", min_size=1, max_size=300), st.text("0123456789", min_size=1, max_size=300))
def test_numbers_of_any_length_compare_as_numbers(one: str, other: str) -> None:
    assume(int(one) != int(other))
    assert (tag_order(one) < tag_order(other)) == (int(one) < int(other))


def test_a_pin_ends_where_a_part_of_the_tag_ends() -> None:
    assert list(tag_prefixes("24.01-py3_x")) == ["24", "24.01", "24.01-py3"]
    assert "24.1" not in tag_prefixes("24.10")
