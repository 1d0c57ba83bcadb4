from __future__ import annotations

from pathlib import Path

import pytest

from slurm_fsx_tools.monitoring.on_node.gpus import Gpu, gpus_of_job

# As a driver of 535 writes it.
INFORMATION = """\
Model: \t\t NVIDIA H100 80GB HBM3
IRQ:   \t\t 10
GPU UUID: \t {uuid}
Video BIOS: \t 96.00.99.00.01
Bus Type: \t PCIe
DMA Size: \t 52 bits
DMA Mask: \t 0xfffffffffffff
Bus Location: \t {address}
Device Minor: \t {minor}
GPU Firmware: \t 535.129.03
GPU Excluded:\t {excluded}
"""


class Driver:
    """What NVIDIA's driver would say of made-up GPUs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.add("0000:53:00.0", 1)
        self.add("0000:64:00.0", 0)
        self.add("0000:a5:00.0", 2)

    def add(self, address: str, minor: int, excluded: str = "No") -> None:
        folder = self.folder / "gpus" / address
        folder.mkdir(parents=True)
        text = INFORMATION.format(uuid=f"GPU-{minor}", address=address, minor=minor, excluded=excluded)
        (folder / "information").write_text(text)

    def divide(self, gpu: int, instance: int) -> None:
        (self.folder / f"capabilities/gpu{gpu}/mig/gi{instance}/ci0").mkdir(parents=True)

    def gpus(self, *names: str) -> list[Gpu]:
        return gpus_of_job(names, str(self.folder))


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    return Driver(tmp_path / "nvidia")


def test_slurms_number_is_the_devices_and_dcgms_the_place_on_the_bus(driver: Driver) -> None:
    assert driver.gpus("0", "1", "2") == [Gpu("1", "GPU-0"), Gpu("0", "GPU-1"), Gpu("2", "GPU-2")]


def test_a_gpu_is_known_by_its_uuid(driver: Driver) -> None:
    assert driver.gpus("GPU-2") == [Gpu("2", "GPU-2")]


def test_a_gpu_that_the_driver_leaves_alone_is_not_counted(driver: Driver) -> None:
    driver.add("0000:10:00.0", 7, excluded="Yes")
    assert driver.gpus("1", "7") == [Gpu("0", "GPU-1")]


def test_of_a_number_that_no_device_has_nothing_is_said(driver: Driver) -> None:
    assert driver.gpus("9", "GPU-9", "MIG-4f421ec4-5175-50ef-8452-d6abb13cb1d2", "x.y") == []


def test_an_instance_is_known_by_its_gpus_index_and_its_own(driver: Driver) -> None:
    driver.divide(2, 11)
    assert driver.gpus("2.11") == [Gpu("2.11", "GPU-2")]


def test_where_gpus_are_divided_a_number_may_mean_any_instance(driver: Driver) -> None:
    (driver.folder / "capabilities/mig").mkdir(parents=True)
    (driver.folder / "capabilities/gpu0/mig").mkdir(parents=True)
    assert driver.gpus("0") == [Gpu("1", "GPU-0")]
    driver.divide(0, 1)
    assert driver.gpus("0") == []
    assert driver.gpus("GPU-0") == [Gpu("1", "GPU-0")]


def test_without_a_driver_slurms_number_is_all_there_is(tmp_path: Path) -> None:
    assert gpus_of_job(["0", "MIG-1"], str(tmp_path)) == [Gpu("0", "")]
    assert gpus_of_job([], str(tmp_path)) == []
