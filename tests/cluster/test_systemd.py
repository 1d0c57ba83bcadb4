"""Set-up where a real systemd runs: services that start, restart, are kept from it, and end."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.errors import LabError
from lab.systemd import SystemdMachine, start_systemd

from .conftest import COMMAND

TIMER = "slurm-fsx-sync.timer"
UNITS = "/etc/systemd/system"
SHARE = "/opt/slurm-fsx/share/slurm-fsx"
HEAD = ("head", "--no-images")
NODE = ("node", "--wait", "0")
EXPORTER = "node_exporter.service"


@pytest.fixture
def machine(tmp_path: Path, installation: Path) -> Iterator[SystemdMachine]:
    try:
        with start_systemd(tmp_path, installation) as machine:
            config = machine.path("/etc/slurm-fsx/config.yaml")
            config.parent.mkdir()
            config.write_text("cluster: {name: lab}\nmonitoring: {prometheus_listen: '127.0.0.1:9791'}\n")
            yield machine
    except LabError as error:
        pytest.skip(str(error))


def setup(machine: SystemdMachine, *arguments: str) -> str:
    done = machine.run(COMMAND, "setup", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ask(machine: SystemdMachine, unit: str, name: str) -> str:
    return machine.run("systemctl", "show", "--value", f"--property={name}", unit).stdout.strip()


def test_a_head_node_runs_prometheus_and_its_timer_until_it_is_taken_back(machine: SystemdMachine) -> None:
    packaged = machine.path("/etc/prometheus/prometheus.yml").read_bytes()
    setup(machine, *HEAD)
    assert ask(machine, TIMER, "ActiveState") == "active"
    assert ask(machine, "prometheus.service", "ActiveState") == "active"
    assert b"slurm-fsx" in machine.path("/etc/prometheus/prometheus.yml").read_bytes()
    assert "changed" not in setup(machine, *HEAD)

    setup(machine, "uninstall")
    assert ask(machine, "prometheus.service", "ActiveState") == "inactive"
    assert (ask(machine, TIMER, "LoadState"), ask(machine, TIMER, "ActiveState")) == ("not-found", "inactive")
    assert machine.path("/etc/prometheus/prometheus.yml").read_bytes() == packaged


def test_a_newer_release_s_units_are_what_systemd_runs_by(machine: SystemdMachine) -> None:
    setup(machine, *HEAD, "--no-prometheus")
    for kind, before, after in (("service", "2min", "77s"), ("timer", "OnUnitActiveSec=1min", "OnUnitActiveSec=5min")):
        unit = machine.path(f"{SHARE}/systemd/slurm-fsx-sync.{kind}")
        unit.write_text(unit.read_text().replace(before, after))
    assert f"restart {TIMER}" in setup(machine, *HEAD, "--no-prometheus")
    assert ask(machine, "slurm-fsx-sync.service", "TimeoutStartUSec") == "1min 17s"
    assert "OnUnitActiveUSec=5min" in ask(machine, TIMER, "TimersMonotonic")
    assert ask(machine, TIMER, "NeedDaemonReload") == "no"


def test_a_service_that_an_admin_has_switched_off_stays_so(machine: SystemdMachine) -> None:
    setup(machine, *HEAD, "--no-prometheus")
    machine.run("systemctl", "disable", "--now", TIMER)
    assert f"kept: {TIMER} is disabled by hand since" in setup(machine, *HEAD, "--no-prometheus")
    assert ask(machine, TIMER, "ActiveState") == "inactive"
    machine.run("systemctl", "mask", "--force", TIMER)
    setup(machine, *HEAD, "--no-prometheus")
    assert ask(machine, TIMER, "ActiveState") == "inactive"
    machine.run("systemctl", "unmask", TIMER)
    setup(machine, *HEAD, "--no-prometheus", "--force")
    assert ask(machine, TIMER, "ActiveState") == "active"


def test_a_service_that_does_not_stay_up_is_a_step_that_failed(machine: SystemdMachine) -> None:
    machine.path("/etc/default/prometheus").write_text('ARGS="--no-such-flag"\n')
    done = machine.run(COMMAND, "setup", *HEAD)
    assert done.returncode == 1
    assert "failed: prometheus.service does not stay up" in done.stdout


def test_a_configuration_of_prometheus_that_an_admin_has_changed_is_kept_with_what_to_do(
    machine: SystemdMachine,
) -> None:
    theirs = machine.path("/etc/prometheus/prometheus.yml")
    theirs.write_text(theirs.read_text() + "# of an admin\n")
    before = theirs.read_bytes()
    done = machine.run(COMMAND, "setup", *HEAD)
    assert done.returncode == 0
    assert "/etc/prometheus/prometheus.yml is not written by us (content)" in done.stderr
    assert "slurm-fsx monitoring install --print" in done.stderr
    assert theirs.read_bytes() == before
    assert not machine.path(f"{UNITS}/prometheus.service.d").exists()


def test_an_exporter_that_ran_before_reads_our_folder_and_after_that_what_it_read_before(
    machine: SystemdMachine,
) -> None:
    machine.path(f"{UNITS}/{EXPORTER}").write_text(
        "[Service]\nExecStart=/usr/bin/prometheus-node-exporter --web.listen-address=127.0.0.1:9792\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )
    machine.run("rm", "/usr/lib/systemd/system/prometheus-node-exporter.service")
    machine.run("systemctl", "enable", "--now", EXPORTER)
    setup(machine, *NODE)
    assert "--collector.textfile.directory=" in command_line(machine)
    setup(machine, "uninstall")
    assert ask(machine, EXPORTER, "ActiveState") == "active"
    assert "--collector.textfile.directory=" not in command_line(machine)


def command_line(machine: SystemdMachine) -> str:
    return machine.run("cat", f"/proc/{ask(machine, EXPORTER, 'MainPID')}/cmdline").stdout


PACKAGES_STEP = """
import sys
from slurm_fsx_tools.provision.steps import Packages, Record, apply, undo
with Record.open("test") as record:
    done = undo(record) if sys.argv[1] == "undo" else apply([Packages(("slurm-fsx-lab",))], record)
print(*(f"{event.outcome}: {event.text}" for event in done))
"""


def make_package(folder: Path, name: str, extra: str = "") -> str:
    """Make a Debian package with one configuration file; give its entry in a repository's index."""
    tree = folder / name
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "etc").mkdir()
    control = f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: Lab <lab@localhost>\n{extra}"
    (tree / "DEBIAN/control").write_text(f"{control}Description: for a test\n")
    (tree / "DEBIAN/conffiles").write_text(f"/etc/{name}.conf\n")
    (tree / f"etc/{name}.conf").write_text("packaged\n")
    file = folder / f"{name}.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", tree, file], check=True, capture_output=True)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return (
        f"{control}Filename: ./{name}.deb\nSize: {file.stat().st_size}\nSHA256: {digest}\nDescription: for a test\n\n"
    )


def packages_step(machine: SystemdMachine, what: str = "") -> str:
    done = machine.run("/opt/slurm-fsx/bin/python3", "-c", PACKAGES_STEP, what)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_packages_come_without_fresh_lists_and_without_a_question_and_go_alone(
    machine: SystemdMachine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("packages")
    index = make_package(folder, "slurm-fsx-lab") + make_package(folder, "theirs", "Depends: slurm-fsx-lab\n")
    repository = machine.path("/srv/repository")
    repository.mkdir()
    for file in folder.glob("*.deb"):
        (repository / file.name).write_bytes(file.read_bytes())
    (repository / "Packages").write_text(index)
    machine.run("sh", "-c", "rm -rf /etc/apt/sources.list* /var/lib/apt/lists/* /etc/apt/apt.conf.d/*")
    machine.path("/etc/apt/sources.list").write_text("deb [trusted=yes] file:/srv/repository ./\n")
    machine.path("/etc/slurm-fsx-lab.conf").write_text("of an admin, before\n")

    assert packages_step(machine) == "changed: install slurm-fsx-lab\n"
    assert machine.path("/etc/slurm-fsx-lab.conf").read_text() == "of an admin, before\n"
    assert packages_step(machine) == "\n"

    assert machine.run("apt-get", "--yes", "install", "theirs").returncode == 0
    refused = packages_step(machine, "undo")
    assert refused.startswith("failed: ")
    assert "theirs depends on slurm-fsx-lab" in refused
    machine.run("dpkg", "--remove", "theirs")
    assert packages_step(machine, "undo") == "removed: took back packages\n"
    assert "install ok installed" not in machine.run("dpkg", "--status", "slurm-fsx-lab").stdout
