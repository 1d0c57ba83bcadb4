from __future__ import annotations

import copy
import pickle
import typing

import pytest

from slurm_fsx_tools.values import NamedTuple


class Ours(NamedTuple):
    name: str
    size: int = 0
    tags: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return f"{self.name}:{self.size}"

    @classmethod
    def empty(cls) -> Ours:
        return cls("")


class Typings(typing.NamedTuple):
    name: str
    size: int = 0
    tags: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        pytest.param(("a",), {}, id="defaults"),
        pytest.param(("a", 1, ("b",)), {}, id="by-place"),
        pytest.param((), {"tags": ("b",), "name": "a"}, id="by-name"),
        pytest.param(("a",), {"tags": ("b",)}, id="both"),
    ],
)
def test_it_holds_and_shows_what_typings_own_does(given: typing.Any, named: typing.Any) -> None:
    ours, theirs = Ours(*given, **named), Typings(*given, **named)
    assert tuple(ours) == tuple(theirs)
    assert (ours.name, ours.size, ours.tags) == (theirs.name, theirs.size, theirs.tags)
    assert ours._asdict() == theirs._asdict()
    assert repr(ours) == repr(theirs).replace("Typings", "Ours")
    assert ours._replace(size=7) == theirs._replace(size=7)
    assert hash(ours) == hash(theirs)
    assert Ours._fields == Typings._fields


@pytest.mark.parametrize(
    ("given", "named"),
    [
        pytest.param((), {}, id="missing"),
        pytest.param(("a", 1, (), 4), {}, id="too-many"),
        pytest.param(("a",), {"colour": "red"}, id="unknown"),
        pytest.param(("a",), {"name": "b"}, id="twice"),
    ],
)
def test_what_is_no_call_of_the_class_is_refused_as_by_typings_own(given: typing.Any, named: typing.Any) -> None:
    for kind in (Ours, Typings):
        with pytest.raises(TypeError, match=r"Ours|Typings|__new__|<lambda>"):
            kind(*given, **named)


def test_what_is_no_field_cannot_be_replaced() -> None:
    with pytest.raises(TypeError):
        Ours("a")._replace(colour="red")  # type: ignore[call-arg]


def test_it_cannot_be_changed() -> None:
    value = Ours("a")
    for name in ("name", "colour"):
        with pytest.raises(AttributeError):
            setattr(value, name, "b")


def test_it_has_methods_and_can_be_copied_and_pickled() -> None:
    value = Ours("a", 1)
    assert (value.label, Ours.empty()) == ("a:1", Ours(""))
    assert copy.deepcopy(value) == pickle.loads(pickle.dumps(value)) == value
    assert type(copy.copy(value)) is Ours
