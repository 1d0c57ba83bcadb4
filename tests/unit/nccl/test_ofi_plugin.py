from __future__ import annotations

import os
from pathlib import Path

import pytest

from slurm_fsx_tools.nccl.ofi_plugin import find_tuner

ELF = b"\x7fELF\x02\x01\x01" + b"\0" * 4096


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("libnccl-ofi-tuner.so", ELF, id="beside-the-plugin"),
        pytest.param("libnccl-tuner-ofi.so", ELF, id="by-its-new-name"),
        pytest.param(
            "libnccl-net-ofi.so", ELF + b"ncclTunerPlugin_v3\0..aws-ofi-nccl 1.17.2\0", id="inside-the-plugin"
        ),
        pytest.param("libnccl-net.so", ELF + b"NET/OFI Initializing aws-ofi-nccl 1.16.3\0", id="by-its-version"),
        pytest.param("libnccl-net.so", ELF + b"aws-ofi-nccl 2.0.0-aws", id="by-a-later-version"),
    ],
)
def test_a_plugin_with_a_tuner_is_known(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert find_tuner(["/nonexistent", str(tmp_path)]) == str(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("libnccl.so.2", ELF + b"ncclTunerPlugin_v3 aws-ofi-nccl 1.17.2", id="nccl-itself"),
        pytest.param("libnccl-net.so", ELF + b"aws-ofi-nccl 1.5.0-aws\0", id="before-the-tuner"),
        pytest.param("libnccl-net.so", ELF + b"aws-ofi-nccl GitHub-dev\0", id="no-version"),
        pytest.param("libnccl-net.so", ELF + b"ncclTunerPlugin_v3\0", id="another-makers"),
        pytest.param("libnccl-net.so", ELF + b"aws-ofi-nccl ", id="cut-off"),
        pytest.param("libnccl-net.so", ELF + "aws-ofi-nccl ².99".encode(), id="no-digits"),
        pytest.param("libnccl-net.so", b"", id="empty"),
    ],
)
def test_a_plugin_without_a_tuner_is_known(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert find_tuner([str(tmp_path)]) == ""


def test_what_is_no_file_brings_no_tuner_and_hangs_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "libnccl-net.so")
    (tmp_path / "libnccl-net-ofi.so").mkdir()
    assert find_tuner([str(tmp_path)]) == ""
