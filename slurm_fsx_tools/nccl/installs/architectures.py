"""For which GPUs NCCL is compiled: those that the cluster has, since compiling for all takes several times as long."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

from ...errors import InvalidVersion
from ...programs import find_program

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BY_GPU = {
    "v100": "sm_70",
    "t4": "sm_75",
    "a100": "sm_80",
    "a10g": "sm_86",
    "a10": "sm_86",
    "l4": "sm_89",
    "l40s": "sm_89",
    "h100": "sm_90",
    "h200": "sm_90",
    "gh200": "sm_90",
    "b200": "sm_100",
    "gb200": "sm_100",
    "b300": "sm_103",
    "gb300": "sm_103",
}
"""By the word for a GPU in a generic resource's type. Source: https://developer.nvidia.com/cuda-gpus"""

_NUMBER = re.compile(r"(?:sm_|compute_)?(\d{2,3}[af]?)\Z")
_GENCODE = re.compile(r"(?:-gencode[= ])?arch=compute_(\d{2,3}[af]?),code=(?:sm|compute)_(\d{2,3}[af]?)\Z")
_TIMEOUT_S = 20.0


def parse_gencode(text: str) -> tuple[str, ...]:
    """Read architectures as ``90``, ``sm_80,sm_90`` or in nvcc's own words, ``-gencode=arch=compute_90,code=sm_90``.

    Raises:
        InvalidVersion: one is none.
    """
    words = re.split(r"\s*(?:[; ]|,(?!code=))\s*", text.strip().replace("-gencode arch", "-gencode=arch"))
    found = []
    for word in filter(None, words):
        match = _NUMBER.match(word) or _GENCODE.match(word)
        if match is None:
            raise InvalidVersion(f"{word!r} is no GPU architecture", hint="write e.g. sm_90, or sm_80,sm_90")
        found.append(f"sm_{match.group(match.lastindex or 1)}")
    if not found:
        raise InvalidVersion(f"{text!r} names no GPU architecture", hint="write e.g. sm_90")
    return tuple(dict.fromkeys(found))


def gencode(architectures: Iterable[str]) -> str:
    """Give architectures in nvcc's words."""
    numbers = [architecture[len("sm_") :] for architecture in architectures]
    return " ".join(f"-gencode=arch=compute_{number},code=sm_{number}" for number in numbers)


def of_gpu_types(types: Iterable[str]) -> tuple[str, ...]:
    """Give the architectures of the GPUs that Slurm's generic resources name, e.g. ``nvidia_h100_80gb_hbm3``."""
    found = []
    for kind in types:
        words = re.split(r"[^a-z0-9]+", kind.lower())
        found += [BY_GPU[word] for word in words if word in BY_GPU]
    return tuple(sorted(set(found), key=_order))


def of_this_node() -> tuple[str, ...]:
    """Give the architectures of this node's own GPUs; none where it has none, or no driver."""
    program = find_program("nvidia-smi")
    if program is None:
        return ()
    try:
        done = subprocess.run(
            [program, "--query-gpu=compute_cap", "--format=csv,noheader"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
            text=True,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return _of_capabilities(done.stdout.splitlines() if done.returncode == 0 else [])


def _of_capabilities(lines: Sequence[str]) -> tuple[str, ...]:
    found = {f"sm_{line.strip().replace('.', '')}" for line in lines if re.match(r"\d+\.\d\s*\Z", line.strip())}
    return tuple(sorted(found, key=_order))


def _order(architecture: str) -> int:
    return int("".join(filter(str.isdigit, architecture)))
