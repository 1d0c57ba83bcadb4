from __future__ import annotations

import email.utils
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_fsx_tools.containers.imports.manifests import Blob, Manifest, choose, is_index
from slurm_fsx_tools.containers.imports.options import Retries
from slurm_fsx_tools.containers.imports.registry import RETRY_AFTER_LIMIT_S, parse_retry_after
from slurm_fsx_tools.errors import ImageNotInRegistry, RegistryUntrustworthy

NOW_S = 1_700_000_000.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("999999999999", RETRY_AFTER_LIMIT_S),
        ("-5", None),
        ("", None),
        ("soon", None),
        ("²", None),
        pytest.param(email.utils.formatdate(NOW_S + 90, usegmt=True), 90, id="date"),
        pytest.param(email.utils.formatdate(NOW_S - 90, usegmt=True), 0, id="past"),
        pytest.param(email.utils.formatdate(NOW_S + 1e6, usegmt=True), RETRY_AFTER_LIMIT_S, id="far"),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW_S) == seconds


@given(st.text())
def test_no_retry_after_breaks_it_or_lasts_for_ever(value: str) -> None:
    wait_s = parse_retry_after(value, NOW_S)
    assert wait_s is None or 0 <= wait_s <= RETRY_AFTER_LIMIT_S


@given(st.integers(1, 500), st.floats(0, 1))
def test_waits_grow_with_jitter_up_to_a_limit(attempt: int, chance: float) -> None:
    retries = Retries(random=lambda: chance)
    assert 2.5 <= retries.wait_s(attempt) <= 450
    assert retries.wait_s(attempt + 1) >= retries.wait_s(attempt)


def digest(char: str) -> str:
    return f"sha256:{char * 64}"


def test_a_manifest_tells_layers_and_what_there_is_to_download() -> None:
    layer = {"digest": digest("b"), "size": 10}
    text = json.dumps({"config": {"digest": digest("a"), "size": 1}, "layers": [layer, layer]})
    manifest = Manifest.parse(text.encode(), digest("c"))
    assert manifest == Manifest(digest("c"), Blob(digest("a"), 1), (Blob(digest("b"), 10),))
    assert manifest.size_bytes == 11


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        {"config": {"digest": "sha256:../../etc/passwd", "size": 1}, "layers": []},
        {"config": {"digest": digest("a"), "size": -1}, "layers": []},
        {"config": {"digest": digest("a"), "size": 1}, "layers": "x"},
    ],
    ids=["empty", "list", "path", "negative", "text"],
)
def test_what_is_no_manifest_is_refused(document: object) -> None:
    with pytest.raises(RegistryUntrustworthy):
        Manifest.parse(json.dumps(document).encode(), digest("c"))


def test_of_a_list_the_linux_image_for_the_processors_is_chosen() -> None:
    entries = [
        {"digest": digest("a"), "platform": {"os": "windows", "architecture": "amd64"}},
        {"digest": digest("b"), "platform": {"os": "linux", "architecture": "amd64"}},
        {"digest": digest("c"), "platform": {"os": "unknown", "architecture": "unknown"}},
    ]
    text = json.dumps({"manifests": entries}).encode()
    assert is_index(text)
    assert choose(text, "amd64", "x") == digest("b")
    with pytest.raises(ImageNotInRegistry, match="no image for arm64, only for amd64"):
        choose(text, "arm64", "x")


@given(st.binary())
def test_no_bytes_break_the_readers(content: bytes) -> None:
    if not is_index(content):
        with pytest.raises(RegistryUntrustworthy):
            Manifest.parse(content, digest("c"))
