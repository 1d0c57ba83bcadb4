"""The stand-in for dcgm-exporter does what the real one is documented to do."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lab.cluster import Cluster
from lab.dcgm import MAPPING, DcgmExporter

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a private cluster takes namespaces and mounts: run as root")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One node with two pretended GPUs, and nothing of the product."""
    with Cluster.start(tmp_path_factory.mktemp("dcgm"), nodes=1, gpus=2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def dcgm(cluster: Cluster) -> Iterator[DcgmExporter]:
    """Its exporter, which reads jobs from a folder that is not there yet."""
    with DcgmExporter.start(cluster.nodes["n1"], gpus=2, mapping=MAPPING) as exporter:
        yield exporter


@pytest.fixture(autouse=True)
def no_jobs(cluster: Cluster) -> Iterator[None]:
    """Each test begins and ends without a mapping."""
    yield
    cluster.run_on("n1", ["rm", "-rf", MAPPING])


def scrape(cluster: Cluster) -> tuple[int, str]:
    code = (
        "import urllib.request, urllib.error\n"
        "try: answer = urllib.request.build_opener(urllib.request.ProxyHandler({})).open('http://n1:9400/metrics')\n"
        "except urllib.error.HTTPError as error: answer = error\n"
        "print(answer.status, answer.read().decode())\n"
    )
    status, _, text = cluster.run_on("n1", ["/usr/bin/python3", "-c", code]).stdout.partition(" ")
    return int(status), text


def series(cluster: Cluster, metric: str) -> list[str]:
    status, text = scrape(cluster)
    assert status == 200, text
    return [line for line in text.splitlines() if line.startswith(metric + "{")]


def map_jobs(cluster: Cluster, gpu: str, *jobs: str) -> None:
    cluster.nodes["n1"].write(f"{MAPPING}/{gpu}", "".join(f"{job}\n" for job in jobs))


def test_every_gpu_has_the_documented_labels(cluster: Cluster, dcgm: DcgmExporter) -> None:
    assert series(cluster, "DCGM_FI_DEV_GPU_TEMP") == [
        f'DCGM_FI_DEV_GPU_TEMP{{gpu="{gpu}",UUID="{dcgm.uuids[gpu]}",pci_bus_id="00000000:1{gpu}:00.0",'
        f'device="nvidia{gpu}",modelName="NVIDIA H100 80GB HBM3",Hostname="n1",DCGM_FI_DRIVER_VERSION="550.54.15"}} 31'
        for gpu in (0, 1)
    ]


def test_what_it_serves_is_prometheus_text_format(cluster: Cluster, dcgm: DcgmExporter) -> None:
    map_jobs(cluster, "0", "17", "18")
    done = cluster.run_on("n1", ["promtool", "check", "metrics"], input=scrape(cluster)[1])
    assert done.returncode == 3, done.stderr  # it reads, and finds NVIDIA's names unusual


def test_a_test_sets_values_while_it_runs(cluster: Cluster, dcgm: DcgmExporter) -> None:
    dcgm.set(1, DCGM_FI_DEV_GPU_UTIL=87, DCGM_FI_DEV_XID_ERRORS=79)
    assert [line.split()[-1] for line in series(cluster, "DCGM_FI_DEV_GPU_UTIL")] == ["0", "87"]
    assert [line.split()[-1] for line in series(cluster, "DCGM_FI_DEV_XID_ERRORS")] == ["0", "79"]
    dcgm.set(1, DCGM_FI_DEV_GPU_UTIL=None)
    assert len(series(cluster, "DCGM_FI_DEV_GPU_UTIL")) == 1
    dcgm.set(1, DCGM_FI_DEV_GPU_UTIL=0, DCGM_FI_DEV_XID_ERRORS=0)


def test_every_job_of_the_mapping_has_a_series_of_its_own(cluster: Cluster, dcgm: DcgmExporter) -> None:
    map_jobs(cluster, "1", "17", "18")
    map_jobs(cluster, "notes", "99")
    labels = [line.partition("hpc_job=")[2].partition("}")[0] for line in series(cluster, "DCGM_FI_DEV_GPU_UTIL")]
    assert labels == ["", '"17"', '"18"']


def test_a_job_that_stands_twice_blinds_the_node(cluster: Cluster, dcgm: DcgmExporter) -> None:
    map_jobs(cluster, "0", "17", "17")
    assert scrape(cluster)[0] == 500


def test_an_empty_file_hides_its_gpu(cluster: Cluster, dcgm: DcgmExporter) -> None:
    map_jobs(cluster, "0")
    assert ['gpu="1"' in line for line in series(cluster, "DCGM_FI_DEV_GPU_UTIL")] == [True]


def test_the_driver_tells_the_same_uuids(cluster: Cluster, dcgm: DcgmExporter) -> None:
    done = cluster.run_on("n1", ["grep", "-hr", "GPU UUID", "/proc/driver/nvidia/gpus"])
    assert sorted(line.split()[-1] for line in done.stdout.splitlines()) == sorted(dcgm.uuids)
