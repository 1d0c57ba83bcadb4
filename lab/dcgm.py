"""NVIDIA GPUs on a node of the lab, as monitoring sees them: the driver's files, and a stand-in for dcgm-exporter.

with DcgmExporter.start(cluster.nodes["n1"], gpus=2) as dcgm:
    dcgm.set(0, DCGM_FI_DEV_GPU_UTIL=87, DCGM_FI_DEV_XID_ERRORS=79)
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from types import TracebackType

from .dcgm_exporter import ALL_IDLE, COUNTERS
from .errors import LabError
from .node import CHECKOUT, Daemon, Node

PORT = 9400
MAPPING = "/run/dcgm-job-mapping"
MODEL = "NVIDIA H100 80GB HBM3"

_STATE = "/run/lab-dcgm.json"
_DRIVER = "550.54.15"
_START_S = 10.0


class DcgmExporter:
    """A running dcgm-exporter and the GPUs it tells of; `DcgmExporter.start` makes one. It ends with the node.

    Attributes:
        uuids: The GPUs' UUIDs, by index.
    """

    def __init__(self, node: Node, gpus: int, mapping: str) -> None:
        self.uuids = [f"GPU-{uuid.uuid5(uuid.NAMESPACE_DNS, f'{node.name}.{gpu}')}" for gpu in range(gpus)]
        self._node = node
        self._mapping = mapping
        self._values: list[dict[str, float | None]] = [dict(ALL_IDLE) for _ in range(gpus)]
        self._daemon: Daemon | None = None

    @classmethod
    def start(cls, node: Node, gpus: int, *, mapping: str = "", driver_files: bool = True) -> DcgmExporter:
        """Give a node idle GPUs, and start the exporter on the node's own address.

        Args:
            node: Where it runs.
            gpus: How many GPUs it tells of; Slurm's are up to ``Cluster.start(gpus=…)``.
            mapping: The folder of its ``--hpc-job-mapping-dir``, e.g. `MAPPING`; none where empty.
            driver_files: Whether /proc/driver/nvidia is there, as NVIDIA's kernel module makes it.

        Raises:
            LabError: it did not start.
        """
        exporter = cls(node, gpus, mapping)
        if driver_files:
            exporter._write_driver_files()
        exporter._write()
        exporter.go_on()
        return exporter

    def set(self, gpu: int, **values: float | None) -> None:
        """Change values of a GPU, by metric; with None, the metric has no value, as on a GPU that lacks the field.

        The next scrape has them.
        """
        unknown = set(values) - set(COUNTERS)
        if unknown:
            raise LabError(f"the stand-in has no metric {', '.join(sorted(unknown))}")
        self._values[gpu].update(values)
        self._write()

    def go_on(self) -> None:
        """Start the exporter, after `stop`."""
        node = self._node
        arguments = [str(CHECKOUT / "lab/dcgm_exporter.py"), node.name, str(PORT), _STATE, self._mapping]
        self._daemon = node.start_daemon("dcgm_exporter", [*node.python(), *arguments])
        deadline = time.monotonic() + _START_S
        probe = [*node.python(), "-c", f"import socket; socket.create_connection(('{node.name}', {PORT}), 5)"]
        while node.run(probe).returncode != 0:
            if not self._daemon.is_running or time.monotonic() > deadline:
                raise LabError(f"no dcgm-exporter on {node.name}: {(node.log / 'dcgm_exporter.out').read_text()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop the exporter; the GPUs stay as they are."""
        if self._daemon is not None:
            self._daemon.stop()

    def __enter__(self) -> DcgmExporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _write(self) -> None:
        """Have the exporter see the values: all of them, or those of before."""
        gpus = [{"labels": self._labels(gpu), "values": values} for gpu, values in enumerate(self._values)]
        self._node.write(f"{_STATE}.new", json.dumps(gpus))
        self._node.path(f"{_STATE}.new").replace(self._node.path(_STATE))

    def _labels(self, gpu: int) -> Mapping[str, str]:
        return {
            "gpu": str(gpu),
            "UUID": self.uuids[gpu],
            "pci_bus_id": _bus_id(gpu),
            "device": f"nvidia{gpu}",
            "modelName": MODEL,
            "Hostname": self._node.name,
            "DCGM_FI_DRIVER_VERSION": _DRIVER,
        }

    def _write_driver_files(self) -> None:
        """Lay out /proc/driver/nvidia. Source: NVIDIA's driver README, "The /proc Interface"."""
        done = self._node.run(["mount", "-t", "tmpfs", "driver", "/proc/driver"])
        if done.returncode != 0:
            raise LabError(f"no /proc/driver on {self._node.name}: {done.stderr.strip()}")
        self._node.write("/proc/driver/nvidia/version", f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {_DRIVER}\n")
        for gpu, uuid_ in enumerate(self.uuids):
            lines = {
                "Model": MODEL,
                "IRQ": "0",
                "GPU UUID": uuid_,
                "Bus Location": _bus_id(gpu).lower().replace("00000000", "0000"),
                "Device Minor": str(gpu),
            }
            folder = _bus_id(gpu).lower().replace("00000000", "0000")
            text = "".join(f"{name + ':':<17}{value}\n" for name, value in lines.items())
            self._node.write(f"/proc/driver/nvidia/gpus/{folder}/information", text)


def _bus_id(gpu: int) -> str:
    return f"00000000:{0x10 + gpu:02X}:00.0"
