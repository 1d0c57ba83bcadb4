from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.job import Node
from slurm_fsx_tools.monitoring.exporters import Exporter
from slurm_fsx_tools.monitoring.on_head.overview import Observer, Other, format_discovery
from slurm_fsx_tools.monitoring.on_head.sync import Sync
from slurm_fsx_tools.monitoring.targets import add_exporters
from slurm_fsx_tools.slurm_state import SlurmJob, SlurmNode

if TYPE_CHECKING:
    from ..conftest import Slurm


@pytest.fixture
def observer(slurm: Slurm, config: Config, closed_port: int) -> Observer:
    """One without a Prometheus: tests/cluster has a real one."""
    url = f"http://127.0.0.1:{closed_port}"
    without = Config({**config.as_dict(), "monitoring.prometheus_url": url})
    return Observer(slurm, without, lambda: Other(["pytorch"], {"done": 1}, "2.28"))


def test_http_sd_offers_what_a_sync_writes(observer: Observer, slurm: Slurm, config: Config, fsx: Path) -> None:
    add_exporters(str(fsx), Node("cpu-1", "train"), "", [Exporter("lustre_exporter", 9169)])
    before = json.loads(format_discovery(observer.look().targets or {}))
    Sync(slurm, config).run()
    in_files = [
        group for path in sorted((fsx / "monitoring/targets").iterdir()) for group in json.loads(path.read_text())
    ]
    assert before == in_files
    assert json.loads(format_discovery(observer.look().targets or {})) == in_files


def test_an_overview_writes_nothing(observer: Observer, fsx: Path) -> None:
    assert set(observer.look().targets or {}) == {"gpu-1", "cpu-1", "cpu-2"}
    assert os.listdir(fsx / "monitoring/targets") == []


def test_what_does_not_answer_is_as_it_was(observer: Observer, slurm: Slurm, fsx: Path) -> None:
    slurm.queue = [SlurmJob(7, "ada", 2001, nodes="cpu-1")]
    first = observer.look()
    slurm.is_away = True
    (fsx / "monitoring/targets").rename(fsx / "elsewhere")
    second = observer.look()
    assert (second.nodes, second.jobs, second.targets) == (first.nodes, first.jobs, first.targets)
    assert [problem.split(":")[0] for problem in second.problems] == [
        "The shared file system does not answer, targets and images are as they were last seen",
        "Slurm does not answer, nodes and jobs are as they were last seen",
        "Prometheus does not answer",
    ]


def test_without_slurm_from_the_start_the_files_are_what_is_offered(
    observer: Observer, slurm: Slurm, config: Config
) -> None:
    Sync(slurm, config).run()
    slurm.is_away = True
    assert set(observer.look().targets or {}) == {"gpu-1", "cpu-1", "cpu-2"}


def test_without_files_from_the_start_nothing_is_offered_for_all(observer: Observer, fsx: Path) -> None:
    (fsx / "monitoring/targets").rmdir()
    (fsx / "monitoring").rmdir()
    assert observer.look().targets is None


def test_slurm_is_asked_once_for_each_overview(
    observer: Observer, slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, ask = tmp_path / "asked", slurm.nodes

    def count() -> list[SlurmNode]:  # in a child, whose memory is its own
        with asked.open("a") as file:
            file.write("once\n")
        return ask()

    monkeypatch.setattr(slurm, "nodes", count)
    for _ in range(3):
        observer.look()
    assert asked.read_text().count("once") == 3
