"""What a node exports to Prometheus."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ..config.model import Config

NVIDIA_DRIVER = "/proc/driver/nvidia/version"
"""There where NVIDIA's kernel module is loaded, whatever the number of GPUs."""


class Exporter(NamedTuple):
    """A program on a node that answers Prometheus."""

    name: str
    """The label ``exporter`` of its metrics, e.g. ``node_exporter``."""

    port: int


def node_exporters(config: Config, driver: str = NVIDIA_DRIVER) -> list[Exporter]:
    """List the exporters that a node has by itself: node_exporter, and dcgm-exporter where there is a GPU."""
    exporters = [Exporter("node_exporter", config["monitoring.node_exporter_port"])]
    if os.path.exists(driver):
        exporters.append(Exporter("dcgm-exporter", config["monitoring.dcgm_exporter_port"]))
    return exporters
