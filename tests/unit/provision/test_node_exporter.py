"""node_exporter is told of the folder of jobs' metrics only where it would not read it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from slurm_fsx_tools.provision.node_exporter import DEBIAN_FOLDER, node_exporter_steps, remove_metrics

from .conftest import Machine

OWN = """\
[Service]
User=nobody
ExecStart=/usr/local/bin/node_exporter \\
  --web.listen-address=:9100

[Install]
WantedBy=multi-user.target
"""
DEBIANS = """\
[Service]
EnvironmentFile=/etc/default/prometheus-node-exporter
ExecStart=/usr/bin/prometheus-node-exporter $ARGS
"""
FOLDER = "/var/lib/node_exporter/textfile"


def steps(machine: Machine, folder: str = FOLDER) -> list[str]:
    return [step.name for step in node_exporter_steps(folder, str(machine.root))]


def test_a_machine_without_it_needs_nothing(debian: Machine) -> None:
    assert steps(debian) == []


def test_debians_own_folder_needs_nothing(debian: Machine) -> None:
    debian.write("/lib/systemd/system/prometheus-node-exporter.service", DEBIANS)
    assert steps(debian, DEBIAN_FOLDER) == []


def test_a_unit_that_reads_no_folder_gets_a_drop_in_that_systemd_takes(debian: Machine) -> None:
    debian.write("/etc/systemd/system/node_exporter.service", OWN)
    before = debian.tree()
    debian.apply([step for step in node_exporter_steps(FOLDER, str(debian.root)) if step.kind != "service"])
    drop_in = debian.read("/etc/systemd/system/node_exporter.service.d/50-slurm-fsx.conf")
    assert drop_in.startswith("# Written by slurm-fsx setup node")
    command = drop_in.rstrip().rpartition("ExecStart=")[2]
    assert command.split() == [
        *("/usr/local/bin/node_exporter", "--web.listen-address=:9100"),
        f"--collector.textfile.directory={FOLDER}",
    ]
    debian.undo()
    assert debian.tree() == before


@pytest.mark.skipif(not shutil.which("systemctl"), reason="needs systemctl")
def test_the_service_is_enabled_in_another_root_and_disabled_again(debian: Machine) -> None:
    debian.write("/etc/systemd/system/node_exporter.service", OWN)
    link = debian.path("/etc/systemd/system/multi-user.target.wants/node_exporter.service")
    outcome = debian.apply(node_exporter_steps(FOLDER, str(debian.root)))
    assert not outcome.failed, outcome.of("failed")
    assert link.is_symlink()
    assert not debian.apply(node_exporter_steps(FOLDER, str(debian.root))).events
    debian.undo()
    assert not link.is_symlink()


@pytest.mark.parametrize("place", ["/etc/default/prometheus-node-exporter", "drop-in"])
def test_another_folder_that_somebody_has_set_is_said_and_left(debian: Machine, place: str) -> None:
    debian.write("/lib/systemd/system/prometheus-node-exporter.service", DEBIANS)
    option = "--collector.textfile.directory=/srv/metrics"
    if place == "drop-in":
        path = "/etc/systemd/system/prometheus-node-exporter.service.d/site.conf"
        debian.write(path, f"[Service]\nExecStart=\nExecStart=/usr/bin/prometheus-node-exporter {option}\n")
    else:
        debian.write(place, f'#ARGS="--collector.textfile.directory=/no"\nARGS="{option}"\n')
    (event,) = debian.apply(node_exporter_steps(FOLDER, str(debian.root)))
    assert event.outcome == "skipped"
    assert "set monitoring.textfile_dir to /srv/metrics" in event.text


def test_the_real_node_exporter_knows_the_option() -> None:
    program = shutil.which("prometheus-node-exporter")
    if program is None:
        pytest.skip("needs prometheus-node-exporter")
    done = subprocess.run([program, "--help"], capture_output=True, text=True, check=False)
    text = done.stdout + done.stderr
    assert "--collector.textfile.directory" in text
    assert DEBIAN_FOLDER in text or not Path("/etc/debian_version").exists()


def test_metrics_of_ours_go_those_of_others_stay_and_nothing_is_followed(tmp_path: Path) -> None:
    ours = ("slurm_fsx_job_12.prom", "slurm_fsx_health.prom", ".slurm_fsx_job_12.prom.n1.77")
    others = ("apt.prom", "slurm_fsx_head.prom", "slurm_fsx_notes.txt")
    for name in (*ours, *others):
        (tmp_path / name).write_text("x 1\n")
    (tmp_path / "slurm_fsx_link.prom").symlink_to(tmp_path / "apt.prom")
    remove_metrics(str(tmp_path), lambda name: not name.startswith("slurm_fsx_head"))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)
    (tmp_path / "link").symlink_to(tmp_path)
    remove_metrics(f"{tmp_path}/link", lambda _name: True)
    remove_metrics(f"{tmp_path}/missing", lambda _name: True)
    assert (tmp_path / "slurm_fsx_head.prom").exists()


def test_a_command_line_that_an_option_would_not_reach_is_left_alone(debian: Machine) -> None:
    unit = "[Service]\nExecStart=/bin/sh -c 'exec node_exporter $OPTIONS'\n"
    debian.write("/etc/systemd/system/node_exporter.service", unit)
    (event,) = debian.apply(node_exporter_steps("/srv/metrics", str(debian.root)))
    assert event.outcome == "skipped"
    assert "add --collector.textfile.directory=/srv/metrics there" in event.text
