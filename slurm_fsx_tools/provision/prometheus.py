"""Steps that have a Prometheus on the head node that knows nodes and jobs.

On Debian and Ubuntu it is the system's package, and its unit gets a drop-in. Elsewhere it is a binary that an admin has
put where programs are found, and gets a unit of its own. Nothing is listened on but loopback, unless configured.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shlex
import subprocess
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import SlurmFsxError
from ..monitoring.prometheus.configuration import CONFIG_FILE, FOLDER, RULES_FILE, SLURM_ENDPOINTS, reachable
from ..node.journal import printable
from ..programs import find_program
from .steps import Change, Command, File, Folder, Packages, Service, apply, plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..monitoring.prometheus.configuration import PrometheusSetup
    from .steps import Event, Outcome, Record, Step

RECORD = "prometheus"
UNIT = "prometheus.service"
PACKAGES = ("prometheus", "prometheus-node-exporter")
DEFAULTS_FILE = "/etc/default/prometheus"

_UNIT_FOLDERS = ("/usr/lib/systemd/system", "/lib/systemd/system")
_OWN_UNIT_FOLDER = "/etc/systemd/system"
_DROP_IN = f"{_OWN_UNIT_FOLDER}/{UNIT}.d/50-slurm-fsx.conf"
_PROBE_TIMEOUT_S = 5.0
_PROMTOOL_TIMEOUT_S = 60.0
_RELOADED = re.compile(r"^prometheus_config_last_reload_success_timestamp_seconds (\S+)", re.MULTILINE)
_HEADER = "# Written by slurm-fsx monitoring install; what you add goes into a drop-in of another name.\n"


class PrometheusMissing(SlurmFsxError):
    """There is no Prometheus, and no package of it."""


class InvalidPrometheusConfig(SlurmFsxError):
    """A configuration that Prometheus would not take."""


class SomebodyElses(SlurmFsxError):
    """Files that would be replaced, and are not ours."""


@dataclass(frozen=True)
class Place:
    """Where Prometheus is on this machine, or will be."""

    program: str
    is_packaged: bool
    """Whether the system's package manager brings it, with a unit."""

    @classmethod
    def find(cls, root: str = "/") -> Place:
        """Look for it.

        Raises:
            PrometheusMissing: it is not there, and this system's package manager does not have it.
        """
        program = find_program("prometheus", root)
        below = root.rstrip("/")
        has_unit = any(os.path.exists(f"{below}{folder}/{UNIT}") for folder in _UNIT_FOLDERS)
        if program and has_unit:
            return cls(program, True)
        if program:
            return cls(program, False)
        if find_program("apt-get", root):
            return cls("/usr/bin/prometheus", True)
        raise PrometheusMissing(
            "this system's package manager has no Prometheus",
            hint="put the programs prometheus and promtool of its release (2.30 or newer) into /usr/local/bin, and run"
            " this again; or scrape from another machine: --print",
        )


class PackagedFile(File):
    """A file that takes the place of the one that its package brought, as long as nobody has changed that."""

    def check(self, record: Record) -> Change | None:
        change = super().check(record)
        place = record.below(self.path)
        if change is not None and change.conflict and not os.path.islink(place) and _is_as_packaged(self.path, record):
            return Change(f"replace {self.path}, which is as its package brought it, with a backup", change.diff)
        return change


def set_up_prometheus(
    setup: PrometheusSetup,
    record: Record,
    *,
    force: bool = False,
    report: Callable[[Event], None] = lambda _event: None,
) -> Outcome:
    """Have Prometheus run with our configuration, which its own tool has found valid before it is put in place.

    Args:
        setup: What the configuration depends on.
        record: As `Record.open` gives it.
        force: Whether files that are not ours are replaced, with a backup.
        report: Told of each step that something became of.

    Raises:
        PrometheusMissing: see `Place.find`.
        SomebodyElses: something is not ours, and `force` was not given; nothing was changed.
        InvalidPrometheusConfig: Prometheus would not take the configuration; its files are as they were.
    """
    steps = prometheus_steps(setup, record)
    theirs = [change for change in plan(steps, record) if change.conflict]
    if theirs and not force:
        raise SomebodyElses(
            "; ".join(change.summary for change in theirs),
            hint="--print says what to add there; --force replaces it, and keeps a backup beside it",
        )
    is_checked = check_with_promtool(setup)
    first = [step for step in steps if isinstance(step, (Packages, Folder)) or step.name == f"file {_DROP_IN}"]
    outcome = apply(first, record, force=force, report=report, retire=False)
    if outcome.failed:
        return outcome
    if not is_checked:  # it has come with the package
        check_with_promtool(setup)
    outcome.events += apply(prometheus_steps(setup, record), record, force=force, report=report).events
    return outcome


def plan_prometheus(setup: PrometheusSetup, record: Record) -> list[Change]:
    """Say what `set_up_prometheus` would do.

    Raises:
        PrometheusMissing: see `Place.find`.
    """
    return plan(prometheus_steps(setup, record), record)


def prometheus_steps(setup: PrometheusSetup, record: Record) -> list[Step]:
    """List the steps, in their order: what starts with the package must find its flags."""
    place = Place.find(record.root)
    rules_path, config_path = setup.rules_path, f"{FOLDER}/{CONFIG_FILE}"
    steps: list[Step] = []
    if place.is_packaged:
        unit_path = _DROP_IN
        steps += [
            Folder(os.path.dirname(_DROP_IN), accepts_any=True),
            File(_DROP_IN, format_drop_in(setup, place, record.below(DEFAULTS_FILE))),
        ]
        if find_program("apt-get", record.root):
            steps.append(Packages(PACKAGES, title="of Prometheus"))
    else:
        unit_path = f"{_OWN_UNIT_FOLDER}/{UNIT}"
        steps.append(File(unit_path, format_unit(setup, place)))
    folder = Folder(FOLDER)
    if record.get(folder.name) or not os.path.isdir(record.below(FOLDER)):
        steps.append(folder)
    steps += [
        File(rules_path, setup.format_rules()),
        PackagedFile(config_path, setup.format_config()),
        Service(UNIT, watches=(unit_path,)),
        Command(
            "have Prometheus read its configuration",
            ("systemctl", "reload", UNIT),
            # Of another system's root, no Prometheus is running here.
            lambda record: (
                record.root == "/"
                and _has_read(setup.config["monitoring.prometheus_listen"], (rules_path, config_path))
            ),
        ),
    ]
    return steps


def check_with_promtool(setup: PrometheusSetup) -> bool:
    """Have Prometheus' own tool check what would be written; say whether the tool is there.

    Raises:
        InvalidPrometheusConfig: it found a mistake.
    """
    promtool = find_program("promtool")
    if promtool is None:
        return False
    with tempfile.TemporaryDirectory(prefix="slurm-fsx-prometheus-") as folder:
        trial = setup.with_rules_at(os.path.join(folder, RULES_FILE))
        for path, text in (
            (trial.rules_path, trial.format_rules()),
            (f"{folder}/{CONFIG_FILE}", trial.format_config()),
        ):
            with open(path, "x", encoding="utf-8") as file:
                file.write(text)
        try:
            done = subprocess.run(
                [promtool, "check", "config", f"{folder}/{CONFIG_FILE}"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                check=False,
                timeout=_PROMTOOL_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            raise InvalidPrometheusConfig(
                f"promtool did not read what would be written within {_PROMTOOL_TIMEOUT_S:g} s", hint="run it again"
            ) from None
    if done.returncode:
        said = [line.strip() for line in done.stdout.splitlines() if "FAILED" in line or "error" in line.lower()]
        raise InvalidPrometheusConfig(
            f"promtool does not take what would be written: {printable(' '.join(said or [done.stdout])[:500])}",
            hint="see monitoring.* in the configuration: slurm-fsx config show",
        )
    return True


def flags(setup: PrometheusSetup) -> dict[str, str]:
    """Give Prometheus' flags that the configuration is about, without the dashes."""
    return {
        "config.file": f"{FOLDER}/{CONFIG_FILE}",
        "storage.tsdb.retention.time": f"{max(1, round(setup.config['monitoring.retention'] * 24))}h",
        "web.listen-address": setup.config["monitoring.prometheus_listen"],
    }


def format_drop_in(setup: PrometheusSetup, place: Place, defaults_path: str) -> str:
    """Give the drop-in of the packaged unit; flags that the admin has set in the package's defaults stay theirs."""
    theirs = _flags_in(defaults_path)
    words = [place.program, *(f"--{name}={value}" for name, value in flags(setup).items() if name not in theirs)]
    return f"{_HEADER}[Service]\nExecStart=\nExecStart={_command(words)} $ARGS\n"


def format_unit(setup: PrometheusSetup, place: Place) -> str:
    """Give a whole unit, for a Prometheus that came without one."""
    words = [place.program, *(f"--{name}={value}" for name, value in flags(setup).items())]
    command = _command([*words, "--storage.tsdb.path=/var/lib/prometheus"])
    return f"""\
{_HEADER}[Unit]
Description=Prometheus, with slurm-fsx's nodes and jobs
Documentation=https://prometheus.io/docs/
Wants=network-online.target
After=network-online.target

[Service]
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
DynamicUser=yes
StateDirectory=prometheus
ProtectSystem=strict
ProtectHome=yes
NoNewPrivileges=yes

[Install]
WantedBy=multi-user.target
"""


def answers_with_metrics(address: str) -> bool:
    """Whether slurmctld at ``HOST:PORT`` has Prometheus' metrics: from 25.11 on, with ``MetricsType``."""
    text = _get(f"http://{address}/metrics/{SLURM_ENDPOINTS[0]}")
    return text is not None and "slurm_jobs" in text


def _command(words: list[str]) -> str:
    # systemd expands % and $ in a command line.
    return " ".join(shlex.quote(word).replace("%", "%%").replace("$", "$$") for word in words)


def _flags_in(path: str) -> set[str]:
    """Name the flags in ARGS of an environment file of systemd's; none where there is no such file."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line for line in file if not line.lstrip().startswith("#")]
    except FileNotFoundError:
        return set()
    return set(re.findall(r"--([a-z][a-z.-]*)", "".join(lines)))


def _is_as_packaged(path: str, record: Record) -> bool:
    """Whether a configuration file is as its package brought it. Source: dpkg-query(1), Conffiles."""
    dpkg_query = find_program("dpkg-query")
    if dpkg_query is None:
        return False
    with open(record.below(path), "rb") as file:
        digest = hashlib.md5(file.read(), usedforsecurity=False).hexdigest()
    command = [dpkg_query, f"--admindir={record.below('/var/lib/dpkg')}", "--show", "--showformat=${Conffiles}"]
    done = subprocess.run([*command, PACKAGES[0]], capture_output=True, text=True, check=False)
    return f"{path} {digest}" in done.stdout


def _has_read(listen: str, paths: Iterable[str]) -> bool:
    """Whether a running Prometheus has read files since they were written; one that does not run has no need to."""
    text = _get(f"http://{reachable(listen)}/metrics")
    match = _RELOADED.search(text or "")
    return match is None or all(os.stat(path).st_mtime <= float(match[1]) for path in paths)


def _get(url: str) -> str | None:
    """Ask a server of this cluster, whatever proxy is set for others; None where it gives no answer of any use."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_PROBE_TIMEOUT_S) as answer:
            return str(answer.read(1 << 22).decode(errors="replace"))
    except (OSError, urllib.error.URLError, http.client.HTTPException, ValueError):
        return None
