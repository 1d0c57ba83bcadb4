from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from slurm_fsx_tools.containers.squashfs import SUPERBLOCK_BYTES, why_unusable

DATA = Path(__file__).resolve().parents[2] / "data" / "superblock"
CASES = json.loads((DATA / "cases.json").read_text())


def ask_python(head: bytes, size_bytes: int) -> str:
    reason = why_unusable(head[:SUPERBLOCK_BYTES], size_bytes)
    return "part" if reason.startswith("not complete") else "none" if reason else "whole"


def ask_c(core_tool: Path, path: Path, head: bytes, size_bytes: int) -> str:
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size_bytes)
    done = subprocess.run([core_tool, "image", path], capture_output=True, text=True, check=False)
    return "whole" if done.returncode == 0 else done.stderr.strip()


@pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in CASES])
def test_python_reads_the_superblocks_as_documented(case: dict[str, object]) -> None:
    assert ask_python(bytes.fromhex(str(case["bytes"])), int(str(case["size_bytes"]))) == case["answer"]


@pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in CASES])
def test_c_reads_the_superblocks_as_documented(case: dict[str, object], core_tool: Path, tmp_path: Path) -> None:
    found = ask_c(core_tool, tmp_path / "image", bytes.fromhex(str(case["bytes"])), int(str(case["size_bytes"])))
    assert found == case["answer"]


def superblock(magic: bytes, major: int, bytes_used: int) -> bytes:
    block = bytearray(SUPERBLOCK_BYTES)
    block[:4], block[28:30], block[40:48] = magic, major.to_bytes(2, "little"), bytes_used.to_bytes(8, "little")
    return bytes(block)


heads = st.one_of(
    st.binary(max_size=128),
    st.builds(
        superblock,
        st.sampled_from([b"hsqs"] * 3 + [b"\0\0\0\0"]),
        st.sampled_from([4] * 3 + [0, 3, 5, 1028]),
        st.one_of(st.integers(0, 200), st.integers(0, (1 << 64) - 1)),
    ),
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(head=superblock(b"hsqs", 4, 128), more=32)
@given(head=heads, more=st.integers(0, 200))
def test_c_and_python_never_differ_about_a_file(head: bytes, more: int, core_tool: Path, tmp_path: Path) -> None:
    size_bytes = len(head) + more
    whole = (head + bytes(more))[:SUPERBLOCK_BYTES]
    assert ask_c(core_tool, tmp_path / "image", head, size_bytes) == ask_python(whole, size_bytes)
