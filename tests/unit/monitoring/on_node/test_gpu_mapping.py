from __future__ import annotations

import os
from pathlib import Path

import pytest

from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.errors import UntrustedFile
from slurm_fsx_tools.monitoring.on_node.gpu_mapping import map_gpus


class Mapping:
    """A node's folder for dcgm-exporter, and its jobs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "mapping"
        self.jobs = folder / "run/jobs"
        self.jobs.mkdir(parents=True)
        self.config = Config({"runtime_dir": f"{folder}/run", "monitoring.gpu_mapping_dir": str(self.folder)})

    def start(self, job: str, *gpus: str) -> None:
        (self.jobs / f"{job}.env").touch()
        map_gpus(job, gpus, self.config)

    def end(self, job: str) -> None:
        (self.jobs / f"{job}.env").unlink(missing_ok=True)
        map_gpus(job, [], self.config)

    @property
    def files(self) -> dict[str, str]:
        """What dcgm-exporter reads: every file that is no folder."""
        return {path.name: path.read_text() for path in sorted(self.folder.iterdir()) if not path.is_dir()}


@pytest.fixture
def mapping(tmp_path: Path) -> Mapping:
    return Mapping(tmp_path)


def test_each_gpu_has_a_file_with_its_jobs(mapping: Mapping) -> None:
    mapping.start("7", "0", "1")
    mapping.start("8", "1", "2.0")
    assert mapping.files == {"0": "7\n", "1": "7\n8\n", "2.0": "8\n"}
    assert (mapping.folder / "0").stat().st_mode & 0o777 == 0o644


def test_an_epilog_takes_its_own_line_and_leaves_no_empty_file(mapping: Mapping) -> None:
    mapping.start("7", "0", "1")
    mapping.start("8", "1")
    mapping.end("7")
    assert mapping.files == {"1": "8\n"}
    mapping.end("7")
    mapping.end("8")
    assert mapping.files == {}


def test_a_requeued_job_stands_there_once(mapping: Mapping) -> None:
    mapping.start("7", "0")
    mapping.start("7", "0")
    assert mapping.files == {"0": "7\n"}
    mapping.start("7", "1")
    assert mapping.files == {"1": "7\n"}


def test_a_file_that_others_have_spoilt_is_mended(mapping: Mapping) -> None:
    mapping.start("7", "0")
    (mapping.folder / "0").write_text("7\n7\n9\nmine\n")
    (mapping.folder / "1").write_text("")
    mapping.start("8", "0")
    assert mapping.files == {"0": "7\nmine\n8\n"}


def test_a_job_that_vanished_is_taken_out_by_the_next(mapping: Mapping) -> None:
    mapping.start("7", "0", "1")
    (mapping.jobs / "7.env").unlink()
    mapping.start("8", "1")
    assert mapping.files == {"1": "8\n"}


def test_what_a_killed_process_left_is_no_gpus_file(mapping: Mapping) -> None:
    mapping.start("7", "0")
    (mapping.folder / ".slurm-fsx/new").write_text("half")
    assert mapping.files == {"0": "7\n"}
    mapping.start("8", "1")
    assert mapping.files == {"0": "7\n", "1": "8\n"}


def test_a_link_is_replaced_and_not_followed(mapping: Mapping, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    mapping.start("7", "1")
    (mapping.folder / "0").symlink_to(tmp_path / "victim")
    mapping.start("8", "0")
    assert mapping.files == {"0": "8\n", "1": "7\n"}
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_folder_that_became_a_link_is_left_alone(mapping: Mapping, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    mapping.folder.symlink_to(tmp_path / "theirs")
    with pytest.raises(UntrustedFile):
        mapping.start("7", "0")
    assert os.listdir(tmp_path / "theirs") == []


def test_a_node_without_the_folder_stays_so_until_a_gpu_has_a_job(mapping: Mapping) -> None:
    mapping.end("7")
    mapping.start("8")
    assert not mapping.folder.exists()
