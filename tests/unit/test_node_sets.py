"""Sets of nodes as Slurm writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_fsx_tools.errors import InvalidName
from slurm_fsx_tools.node_sets import expand, fold


@pytest.mark.parametrize(
    ("text", "names"),
    [
        pytest.param("n1", ["n1"], id="one"),
        pytest.param("n[1-3,7]", ["n1", "n2", "n3", "n7"], id="ranges"),
        pytest.param("gpu-[08-11]", ["gpu-08", "gpu-09", "gpu-10", "gpu-11"], id="zeros"),
        pytest.param("b,a,n[2]", ["b", "a", "n2"], id="several, in their order"),
        pytest.param("r[1-2]n[1-2]", ["r1n1", "r1n2", "r2n1", "r2n2"], id="two brackets"),
        pytest.param("q-st-c5-[1-2],n1,n1", ["q-st-c5-1", "q-st-c5-2", "n1"], id="once each"),
    ],
)
def test_a_set_is_read_into_names(text: str, names: list[str]) -> None:
    assert expand(text) == names


@pytest.mark.parametrize(
    "text",
    ["", " ", "n[", "n]", "n[1-", "n[3-1]", "n[a]", ",n1", "n1,,n2", "-n1", "n1;reboot", "n[1-999999999]", "@all"],
)
def test_what_is_no_set_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(InvalidName, match="is no set of nodes"):
        expand(text)


def test_a_set_larger_than_any_cluster_is_refused() -> None:
    with pytest.raises(InvalidName, match="more than 100000 nodes"):
        expand("r[1-1000]n[1-1000]")


@pytest.mark.parametrize(
    ("names", "text"),
    [
        pytest.param(["n3", "n1", "n2", "n7"], "n[1-3,7]", id="ranges"),
        pytest.param(["n10", "n9"], "n[9-10]", id="by number, not by letter"),
        pytest.param(["n09", "n10", "n08"], "n[08-10]", id="zeros"),
        pytest.param(["n1", "n01"], "n01,n1", id="a zero makes another name"),
        pytest.param(["login", "n1"], "login,n1", id="no number"),
        pytest.param(["n1.x", "n2.x"], "n[1-2].x", id="behind the number"),
        pytest.param([], "", id="none"),
    ],
)
def test_names_are_folded(names: list[str], text: str) -> None:
    assert fold(names) == text


@given(st.sets(st.from_regex(r"[a-z][a-z-]{0,2}[0-9]{0,3}[a-z]?", fullmatch=True).filter(lambda name: name[-1] != "-")))
def test_a_folded_set_stands_for_the_same_names(names: set[str]) -> None:
    assert set(expand(fold(names)) if names else []) == names
