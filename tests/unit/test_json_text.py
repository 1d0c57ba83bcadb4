from __future__ import annotations

import json
from typing import Any

import pytest

from slurm_fsx_tools import json_text
from slurm_fsx_tools.job import Node

DOCUMENTS = [
    *({}, [], "", 0, None, True, 1.5, 1e300, -(10**30), '\x00\n"\\\u20ac\U0001f600\udc80'),
    *({"a": [{"b": [None, False]}]}, {"1": {}}, (1, (2,)), Node("n1", "c"), [float("inf"), -float("inf")]),
]


@pytest.fixture(params=["c-code", "json", "other arguments"])
def has_c_code(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way: a Python without the C code, or with another one's, is not at hand everywhere."""
    monkeypatch.setattr(json_text, "_HAS_C_CODE", request.param != "json")
    if request.param == "other arguments":
        for name in ("make_encoder", "make_scanner"):
            monkeypatch.setattr(json_text, name, lambda: None)


@pytest.mark.usefixtures("has_c_code")
@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_document_is_written_and_read_as_by_json(document: Any) -> None:
    text = json_text.dumps(document)
    assert text == json.dumps(document).encode()
    assert json_text.loads(text) == json.loads(text)
    indented = json.dumps(document, indent=1).encode() + b"\r\n\t "
    assert json_text.loads(indented) == json.loads(indented)


@pytest.mark.usefixtures("has_c_code")
@pytest.mark.parametrize(
    "text",
    [b"", b" ", b"[1,", b"[1 2]", b"{} {}", b"[]]", b"{'a': 1}", b'"\n"', b'"a', b"\xff", b"nul", b'{"a"}', b"01"],
)
def test_what_is_no_document_is_no_value(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # json's own messages are its own
        json_text.loads(text)


@pytest.mark.usefixtures("has_c_code")
def test_a_document_that_is_nested_too_deeply_ends_nothing() -> None:
    with pytest.raises(RecursionError):
        json_text.loads(b"[" * 200_000)


@pytest.mark.usefixtures("has_c_code")
def test_what_json_cannot_carry_is_refused() -> None:
    for value in (object(), {"a": {1, 2}}, b"bytes"):
        with pytest.raises(TypeError):
            json_text.dumps(value)
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(ValueError, match="Circular"):
        json_text.dumps(circle)
