"""This node's NVIDIA GPUs, and which of them a job got.

Slurm numbers a job's GPUs by the lines of gres.conf, dcgm-exporter by NVML's index. Both are known by what NVIDIA's
driver says in ``/proc/driver/nvidia``: ``gpus/PCI-ADDRESS/information`` has a GPU's UUID and its ``Device Minor``, the
N of ``/dev/nvidiaN``; NVML counts the same GPUs in the order of their PCI addresses. So number N of Slurm is taken for
``/dev/nvidiaN``. nvidia-smi would take a second to say so.

Source: NVIDIA driver README, "Using the /proc File System Interface"; NVML API reference, nvmlDeviceGetHandleByIndex;
Slurm, Generic Resource (GRES) Scheduling.
"""

from __future__ import annotations

import os

from ...values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

DRIVER = "/proc/driver/nvidia"


class Gpu(NamedTuple):
    """A GPU of this node."""

    label: str
    """dcgm-exporter's label ``gpu``: NVML's index; ``2.0`` for instance 0 of GPU 2 under MIG."""

    uuid: str
    """dcgm-exporter's label ``UUID``, e.g. ``GPU-9221d5d1-b60b-a624-bf14-0a1819cfda3b``; empty where nobody says."""


def gpus_of_job(names: Iterable[str], driver: str = DRIVER) -> list[Gpu]:
    """Give a job's GPUs as dcgm-exporter knows them; those that cannot be told for certain are left out.

    Covered are numbers, UUIDs of GPUs, and ``2.0`` for a MIG instance (its GPU's index and its own). Where a node has
    MIG instances, Slurm's numbers count these by the lines of gres.conf, which nobody here has read; and which instance
    ``MIG-UUID`` is, only NVML knows: such a job has no GPU here, rather than another job's.

    Args:
        names: `Job.gpus`.
        driver: What NVIDIA's driver says of itself.
    """
    names = list(names)
    if not names:
        return []
    known = _read_gpus(driver)
    if known is None:  # no driver of NVIDIA's, or a test bed: Slurm's number is all there is
        return [Gpu(name, "") for name in names if name.isdigit()]
    by_minor = {} if _has_instances(driver) else {minor: gpu for minor, gpu in known if minor}
    found = []
    for name in names:
        if name in by_minor:
            found.append(by_minor[name])
        elif name.startswith("GPU-"):
            found += [gpu for _, gpu in known if gpu.uuid == name]
        else:
            index, dot, instance = name.partition(".")
            if dot and index.isdigit() and instance.isdigit():
                found += [gpu._replace(label=name) for _, gpu in known if gpu.label == index]
    return found


def _read_gpus(driver: str) -> list[tuple[str, Gpu]] | None:
    """Give each GPU with its minor number, in NVML's order; None where there is no driver."""
    try:
        addresses = sorted(os.listdir(f"{driver}/gpus"))
    except OSError:
        return None
    gpus: list[tuple[str, Gpu]] = []
    for address in addresses:
        facts = _read_facts(f"{driver}/gpus/{address}/information")
        if facts.get("GPU Excluded", "No") == "No":  # NVML does not count what the driver was told to leave alone
            gpus.append((facts.get("Device Minor", ""), Gpu(str(len(gpus)), facts.get("GPU UUID", ""))))
    return gpus


def _read_facts(path: str) -> dict[str, str]:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            pairs = [line.partition(":") for line in file]
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in pairs}


def _has_instances(driver: str) -> bool:
    """Whether any GPU is divided: ``capabilities/gpuN/mig/giM`` stands for an instance (NVIDIA MIG User Guide)."""
    folder = f"{driver}/capabilities"
    try:
        return any(
            name.startswith("gi")
            for gpu in os.listdir(folder)
            if gpu.startswith("gpu")
            for name in os.listdir(f"{folder}/{gpu}/mig")
        )
    except OSError:
        return False
