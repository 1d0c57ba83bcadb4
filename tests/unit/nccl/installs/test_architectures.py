"""For which GPUs is compiled, from what users, drivers and Slurm say."""

from __future__ import annotations

import pytest

from slurm_fsx_tools.errors import InvalidVersion
from slurm_fsx_tools.nccl.installs.architectures import gencode, of_gpu_types, parse_gencode


@pytest.mark.parametrize(
    ("text", "architectures"),
    [
        pytest.param("90", ("sm_90",), id="number"),
        pytest.param("sm_80,sm_90", ("sm_80", "sm_90"), id="list"),
        pytest.param("-gencode=arch=compute_90,code=sm_90", ("sm_90",), id="nvcc"),
        pytest.param(
            "-gencode=arch=compute_80,code=sm_80 -gencode arch=compute_90a,code=sm_90a", ("sm_80", "sm_90a"), id="two"
        ),
    ],
)
def test_architectures_are_read_in_each_form(text: str, architectures: tuple[str, ...]) -> None:
    assert parse_gencode(text) == architectures
    assert parse_gencode(gencode(architectures)) == architectures


@pytest.mark.parametrize("text", ["", "all", "sm_90;id", "$(id)", "sm_9", "-gencode=arch=compute_90,code=sm_90 -o x"])
def test_what_is_no_architecture_is_refused(text: str) -> None:
    with pytest.raises(InvalidVersion):
        parse_gencode(text)


@pytest.mark.parametrize(
    ("types", "architectures"),
    [
        pytest.param(["h100"], ("sm_90",), id="short"),
        pytest.param(["nvidia_a100-sxm4-40gb", "h200"], ("sm_80", "sm_90"), id="driver's-name"),
        pytest.param(["b200", "l40s"], ("sm_89", "sm_100"), id="in-order-of-number"),
        pytest.param(["mi300x"], (), id="unknown"),
    ],
)
def test_slurms_gpu_types_have_architectures(types: list[str], architectures: tuple[str, ...]) -> None:
    assert of_gpu_types(types) == architectures
