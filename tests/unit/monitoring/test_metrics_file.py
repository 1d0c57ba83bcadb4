from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from slurm_fsx_tools.errors import UntrustedFile
from slurm_fsx_tools.monitoring.metrics_file import (
    COUNTER,
    GAUGE,
    HISTOGRAM,
    Family,
    Sample,
    format_metrics,
    remove_metrics,
    write_metrics,
)

if TYPE_CHECKING:
    from .conftest import NodeExporter

LIMIT = 40

HOSTILE = [
    pytest.param('say "hi"', 'say "hi"', id="quotes"),
    pytest.param('x"} 1\nslurm_fsx_forged{a="', 'x"} 1\nslurm_fsx_forged{a="', id="forged-line"),
    pytest.param("back\\slash\\n", "back\\slash\\n", id="backslash"),
    pytest.param("caf\udce9", "caf\ufffd", id="invalid-utf-8"),
    pytest.param("\x1b[2J\x00\r\u202e\u2028", "\ufffd[2J\ufffd\ufffd\ufffd\ufffd", id="control-characters"),
    pytest.param("Größe 大 😀", "Größe 大 😀", id="unicode"),
    pytest.param("x" * 10_000, "x" * 39 + "…", id="10-kB"),
    pytest.param('"' * 41, '"' * 39 + "…", id="cut-before-it-is-escaped"),
    pytest.param("y" * 40, "y" * 40, id="just-fits"),
    pytest.param("", "", id="empty"),
]


def info(**labels: str) -> list[Family]:
    return [Family("slurm_fsx_job_info", GAUGE, "A job on a node.", [Sample(labels, 1)])]


@pytest.mark.parametrize(("text", "read"), HOSTILE)
def test_whatever_a_user_typed_is_one_label_of_one_sample(text: str, read: str) -> None:
    data = format_metrics(info(jobid="7", job_name=text), LIMIT).decode()
    families = list(text_string_to_metric_families(data))
    assert [family.name for family in families] == ["slurm_fsx_job_info"]
    assert [sample.labels for sample in families[0].samples] == [{"jobid": "7", "job_name": read}]


@pytest.mark.parametrize(("text", "_read"), HOSTILE)
def test_promtool_finds_nothing_wrong_with_it(text: str, _read: str) -> None:
    data = format_metrics(info(jobid="7", job_name=text), 128)
    done = subprocess.run(["promtool", "check", "metrics"], input=data, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_histogram_is_read_as_one() -> None:
    name = "slurm_fsx_prolog_duration_seconds"
    samples = [
        Sample({"le": "0.1"}, 1, "_bucket"),
        Sample({"le": "+Inf"}, 2, "_bucket"),
        Sample({}, 0.25, "_sum"),
        Sample({}, 2, "_count"),
    ]
    data = format_metrics([Family(name, HISTOGRAM, "Time\nof \\ prologs.", samples)], 128)
    assert subprocess.run(["promtool", "check", "metrics"], input=data, capture_output=True).stderr == b""
    (family,) = text_string_to_metric_families(data.decode())
    assert (family.name, family.type, family.documentation) == (name, "histogram", "Time\nof \\ prologs.")
    assert len(family.samples) == 4


@pytest.mark.parametrize("value", [0, 3, True, 0.1, 1e-9, 1.7e9, 12345678901234567, math.inf, -math.inf, math.nan])
def test_a_value_is_read_as_it_was(value: float) -> None:
    data = format_metrics([Family("slurm_fsx_x", GAUGE, "X.", [Sample({}, value)])], 128).decode()
    ((sample,),) = [family.samples for family in text_string_to_metric_families(data)]
    assert sample.value == value or (math.isnan(value) and math.isnan(sample.value))


def test_a_metric_without_samples_is_not_written() -> None:
    assert format_metrics([Family("slurm_fsx_x", COUNTER, "X.", [])], 128) == b""


def test_node_exporter_shows_the_metrics_of_every_file(node_exporter: NodeExporter) -> None:
    folder = str(node_exporter.folder)
    for job in ("7", "8"):
        write_metrics(folder, f"slurm_fsx_job_{job}", info(jobid=job, job_name='a "b"\n'), 128)
    found = node_exporter.samples("slurm_fsx_job_info")
    assert sorted((labels["jobid"], labels["job_name"], value) for labels, value in found) == [
        ("7", 'a "b"\n', 1),
        ("8", 'a "b"\n', 1),
    ]
    assert remove_metrics(folder, "slurm_fsx_job_7")
    assert not remove_metrics(folder, "slurm_fsx_job_7")
    assert [labels["jobid"] for labels, _ in node_exporter.samples("slurm_fsx_job_info")] == ["8"]
    assert node_exporter.complaints() == ""


def test_node_exporter_never_reads_half_a_file(node_exporter: NodeExporter) -> None:
    folder = node_exporter.folder
    write_metrics(str(folder), "slurm_fsx_job_7", info(jobid="7"), 128)
    # What a process leaves that is killed before the renaming.
    (folder / f".slurm_fsx_job_8.prom.{os.uname().nodename}.4711").write_text('slurm_fsx_job_info{jobid="8')
    assert [labels["jobid"] for labels, _ in node_exporter.samples("slurm_fsx_job_info")] == ["7"]
    assert node_exporter.complaints() == ""


def test_node_exporter_drops_what_another_file_explains_differently(node_exporter: NodeExporter) -> None:
    for job in ("7", "8"):
        family = Family("slurm_fsx_job_info", GAUGE, f"Job {job}.", [Sample({"jobid": job}, 1)])
        write_metrics(str(node_exporter.folder), f"slurm_fsx_job_{job}", [family], 128)
    assert [labels["jobid"] for labels, _ in node_exporter.samples("slurm_fsx_job_info")] == ["7"]
    assert 'has help \\"Job 8.\\" but should have \\"Job 7.\\"' in node_exporter.complaints()


def test_a_missing_folder_is_made_for_node_exporter_to_read(textfile_dir: Path) -> None:
    assert not remove_metrics(str(textfile_dir), "slurm_fsx_job_7")
    write_metrics(str(textfile_dir), "slurm_fsx_job_7", info(jobid="7"), 128)
    assert textfile_dir.stat().st_mode & 0o777 == 0o755
    assert (textfile_dir / "slurm_fsx_job_7.prom").stat().st_mode & 0o777 == 0o644


def test_a_folder_that_became_a_link_is_left_alone(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "slurm_fsx_job_7.prom").write_text("precious")
    (tmp_path / "link").symlink_to(theirs)
    with pytest.raises(UntrustedFile, match="no folder of its own"):
        write_metrics(str(tmp_path / "link"), "slurm_fsx_job_7", info(jobid="7"), 128)
    with pytest.raises(UntrustedFile, match="no folder of its own"):
        remove_metrics(str(tmp_path / "link"), "slurm_fsx_job_7")
    assert (theirs / "slurm_fsx_job_7.prom").read_text() == "precious"


def test_a_link_in_the_folder_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder = tmp_path / "metrics"
    folder.mkdir()
    (folder / "slurm_fsx_job_7.prom").symlink_to(victim)
    (folder / f".slurm_fsx_job_7.prom.{os.uname().nodename}.{os.getpid()}").symlink_to(victim)
    write_metrics(str(folder), "slurm_fsx_job_7", info(jobid="7"), 128)
    assert victim.read_text() == "precious"
    assert os.listdir(folder) == ["slurm_fsx_job_7.prom"]
    assert not (folder / "slurm_fsx_job_7.prom").is_symlink()


WRITES_ON_A_FULL_DISK = """
import errno, os, sys
from slurm_fsx_tools.monitoring.metrics_file import GAUGE, Family, Sample, write_metrics
sample = Sample({}, 1)
write_metrics(sys.argv[1], "a", [Family("slurm_fsx_x", GAUGE, "X.", [sample])], 9)
try:
    write_metrics(sys.argv[1], "a", [Family("slurm_fsx_x", GAUGE, "X" * 9000, [sample])], 9)
except OSError as error:
    print(errno.errorcode[error.errno], os.listdir(sys.argv[1]), "X." in open(sys.argv[1] + "/a.prom").read())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system takes root to mount")
def test_on_a_full_disk_the_old_file_stays_and_no_temporary_one(tmp_path: Path) -> None:
    mounted = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=8k none "$1" && exec "$2" -c "$3" "$1"', "sh"]
    command = [*mounted, str(tmp_path), sys.executable, WRITES_ON_A_FULL_DISK]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "ENOSPC ['a.prom'] True\n", done.stderr
