"""Steps that other programs take: packages, services, and commands where nothing else does."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import NotHere, StepFailed
from ...node.journal import printable
from ...programs import find_program
from .step import KEPT, Change

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .record import Record

PACKAGES_TIMEOUT_S = 600.0
SERVICE_TIMEOUT_S = 90.0
UNITS = "/etc/systemd/"
"""Below which systemd has units of the admin's, and ours."""

_STAYS_UP_S = 2.0
"""Within which most services that cannot run have ended."""

_POLL_S = 0.1

_APT_ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "l"}
_APT = (
    *("apt-get", "--quiet", "--yes"),
    "--option=DPkg::Lock::Timeout=300",  # another apt may be at work while a machine boots
    # A configuration file that is there stays, and nobody is asked. Source: dpkg(1).
    *("--option=Dpkg::Options::=--force-confdef", "--option=Dpkg::Options::=--force-confold"),
)
_ACTIVE = ("active", "reloading")
_ENABLED = ("enabled", "enabled-runtime", "static", "alias", "indirect", "generated")
_GONE = ("", "not-found")
"""What ``systemctl is-enabled`` answers where there is no such unit: older ones say so on stderr alone."""


@dataclass(frozen=True)
class Packages:
    """Packages of the system, by apt or dnf."""

    names: tuple[str, ...]
    title: str = ""
    """Tells several such steps of one record apart. What drops out of the names stays until all is undone."""

    kind = "packages"

    @property
    def name(self) -> str:
        return f"packages {self.title}".rstrip()

    def check(self, record: Record) -> Change | None:
        missing = _missing(self.names, record.root)
        return Change(f"install {', '.join(missing)}") if missing else None

    def apply(self, record: Record) -> None:
        if record.root != "/":
            raise NotHere("packages are installed on a running system alone", hint="")
        missing = _missing(self.names, record.root)
        old = record.get(self.name) or {}
        entry = {"kind": self.kind, "title": self.title, "installed": sorted({*old.get("installed", []), *missing})}
        record.begin(self.name, entry)
        if find_program("apt-get"):
            if old.get("begun"):  # a killed dpkg leaves halves behind, and refuses all else before they are whole
                _run(["dpkg", "--force-confdef", "--force-confold", "--configure", "--pending"], PACKAGES_TIMEOUT_S)
            _apt_install(missing)
        else:
            _run(["dnf", "--quiet", "--assumeyes", "install", *missing], PACKAGES_TIMEOUT_S)
        record.done(self.name, entry)

    def undo(self, record: Record) -> str:
        installed = (record.get(self.name) or {}).get("installed", [])
        present = [name for name in installed if name not in _missing(installed, record.root)]
        if present and record.root == "/":
            # Not by apt or dnf: those take along what somebody else has since installed on top.
            remove = ["dpkg", "--remove"] if find_program("dpkg") else ["rpm", "--erase"]
            _run([*remove, *present], PACKAGES_TIMEOUT_S, _APT_ENVIRONMENT)
        record.forget(self.name)
        return ""


@dataclass(frozen=True)
class Service:
    """A unit of systemd that is enabled, and runs."""

    unit: str
    start: bool = True
    """Whether it runs now, too; a unit that boot alone starts need not."""

    watches: tuple[str, ...] = ()
    """Files whose change restarts it."""

    kind = "service"

    @property
    def name(self) -> str:
        return f"service {self.unit}"

    def check(self, record: Record) -> Change | None:
        to_do = self._to_do(record)
        if not to_do:
            return None
        summary = f"{' and '.join(to_do)} {self.unit}"
        entry = record.get(self.name) or {}
        if "enable" in to_do and entry.get("enabled") and not entry.get("begun"):
            return Change(f"{self.unit} is disabled by hand since", verdict=KEPT)
        return Change(summary)

    def apply(self, record: Record) -> None:
        to_do = self._to_do(record)
        old = record.get(self.name) or {}
        entry: dict[str, Any] = {
            "kind": self.kind,
            "unit": self.unit,
            "enabled": old.get("enabled", False) or "enable" in to_do,
            "started": old.get("started", False) or "start" in to_do,
            "watches": bool(self.watches),
            "digest": old.get("digest", ""),
        }
        record.begin(self.name, entry)
        if _runs_systemd(record):
            _systemctl(record, "daemon-reload")
        for verb in to_do:
            _systemctl(record, verb, self.unit)
        if to_do and to_do[-1] != "enable":
            self._see_it_stay(record)
        record.done(self.name, {**entry, "digest": self._digest(record)})

    def undo(self, record: Record) -> str:
        entry = record.get(self.name) or {}
        try:
            if self._state(record) not in _GONE:
                if entry.get("started") and _runs_systemd(record):
                    _systemctl(record, "stop", self.unit)
                if entry.get("enabled"):
                    _systemctl(record, "disable", self.unit)
        except NotHere:
            pass
        record.forget(self.name)
        return ""

    def _to_do(self, record: Record) -> list[str]:
        state = self._state(record)
        if state.startswith("masked"):
            raise NotHere(f"{self.unit} is masked by hand", hint=f"run: systemctl unmask {self.unit}")
        verbs = []
        if state not in _ENABLED:
            verbs.append("enable")
        if self.start and _runs_systemd(record):
            if self._activity(record) not in _ACTIVE:
                verbs.append("start")
            elif self.watches and self._digest(record) != (record.get(self.name) or {}).get("digest"):
                verbs.append("restart")
        return verbs

    def _see_it_stay(self, record: Record) -> None:
        """Look on for a while: a start succeeds as soon as there is a process, which may end at once."""
        end_s = time.monotonic() + _STAYS_UP_S
        while self.unit.endswith(".service") and time.monotonic() < end_s:
            activity = self._activity(record)
            if activity not in _ACTIVE:
                raise StepFailed(
                    f"{self.unit} does not stay up: it is {activity}", hint=f"see: journalctl --unit={self.unit}"
                )
            time.sleep(_POLL_S)

    def _state(self, record: Record) -> str:
        return _ask([*_systemctl_command(record), "is-enabled", self.unit]).strip()

    def _activity(self, record: Record) -> str:
        return _ask([*_systemctl_command(record), "is-active", self.unit]).strip()

    def _digest(self, record: Record) -> str:
        digest = hashlib.sha256()
        for path in self.watches:
            try:
                with open(record.below(path), "rb") as file:
                    digest.update(file.read())
            except FileNotFoundError:
                pass
            digest.update(b"\0")
        return digest.hexdigest()


@dataclass(frozen=True)
class Command:
    """A command, where no other kind of step does."""

    title: str
    """What it does, e.g. ``load the kernel module fuse``."""

    arguments: tuple[str, ...]
    is_done: Callable[[Record], bool]
    undo_arguments: tuple[str, ...] = ()
    timeout_s: float = SERVICE_TIMEOUT_S

    kind = "command"

    @property
    def name(self) -> str:
        return f"command {self.title}"

    def check(self, record: Record) -> Change | None:
        if self.is_done(record):
            return None
        if record.root != "/":
            raise NotHere("commands run on a running system alone", hint="")
        return Change(f"{self.title}: {' '.join(self.arguments)}")

    def apply(self, record: Record) -> None:
        entry = {"kind": self.kind, "title": self.title, "undo": list(self.undo_arguments)}
        record.begin(self.name, entry)
        _run(self.arguments, self.timeout_s)
        record.done(self.name, entry)

    def undo(self, record: Record) -> str:
        arguments = (record.get(self.name) or {}).get("undo", [])
        if arguments and record.root == "/":
            _run(arguments, self.timeout_s)
        record.forget(self.name)
        return ""


def settle_units(record: Record, restart: Sequence[str]) -> None:
    """Have systemd see files of units that have changed, and services that still run by what they said end that.

    Raises:
        StepFailed: systemd did not do it.
    """
    if not _runs_systemd(record):
        return
    _systemctl(record, "daemon-reload")
    for unit in restart:
        _systemctl(record, "try-restart", unit)


def _apt_install(names: Sequence[str]) -> None:
    install = [*_APT, "install", "--no-install-recommends", *names]
    try:
        _run(install, PACKAGES_TIMEOUT_S, _APT_ENVIRONMENT)
    except StepFailed:
        # Fresh images come without lists of packages, and old ones with lists of what is no longer there.
        _run([*_APT, "update"], PACKAGES_TIMEOUT_S, _APT_ENVIRONMENT)
        _run(install, PACKAGES_TIMEOUT_S, _APT_ENVIRONMENT)


def _missing(names: Sequence[str], root: str) -> list[str]:
    if not names:
        return []
    if find_program("dpkg-query") and os.path.isdir(f"{root.rstrip('/')}/var/lib/dpkg"):
        command = ["dpkg-query", f"--admindir={root.rstrip('/')}/var/lib/dpkg", "--show"]
        asked = _ask([*command, "--showformat=${db:Status-Abbrev} ${Package}\\n", *names])
        # Wanted or held, by the first letter; installed by the second.
        present = {line.split()[-1] for line in asked.splitlines() if line[1:2] == "i"}
    elif find_program("rpm"):
        present = set(_ask(["rpm", f"--root={root}", "--query", "--queryformat=%{NAME}\\n", *names]).splitlines())
    else:
        raise NotHere("neither dpkg nor rpm is here", hint=f"install {', '.join(names)} as this system does")
    return [name for name in names if name not in present]


def _runs_systemd(record: Record) -> bool:
    return record.root == "/" and os.path.isdir("/run/systemd/system")


def _systemctl(record: Record, *arguments: str) -> None:
    _run([*_systemctl_command(record), "--quiet", *arguments], SERVICE_TIMEOUT_S)


def _systemctl_command(record: Record) -> list[str]:
    program = find_program("systemctl")
    if program is None:
        raise NotHere("this system has no systemctl", hint="")
    return [program] if _runs_systemd(record) else [program, f"--root={record.root}"]


def _ask(arguments: Sequence[str]) -> str:
    """Give what a program answers, whatever its exit code."""
    try:
        done = subprocess.run(
            arguments, capture_output=True, text=True, errors="replace", check=False, timeout=SERVICE_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise StepFailed(f"{arguments[0]} did not answer within {SERVICE_TIMEOUT_S:g} s", hint="see why") from None
    return done.stdout


def _run(arguments: Sequence[str], timeout_s: float, environment: dict[str, str] | None = None) -> None:
    try:
        done = subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            timeout=timeout_s,
            env={**os.environ, **(environment or {})},
        )
    except subprocess.TimeoutExpired:
        raise StepFailed(f"{' '.join(arguments)} did not end within {timeout_s:g} s", hint="see why it hangs") from None
    except FileNotFoundError:
        raise NotHere(f"{arguments[0]} is not here", hint="") from None
    if done.returncode:
        said = printable(done.stdout.strip()[-500:]) or "it said nothing"
        raise StepFailed(f"{' '.join(arguments)} ended with {done.returncode}: {said}", hint="mend that, and run again")
