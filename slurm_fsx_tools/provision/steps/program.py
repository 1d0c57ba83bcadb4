"""Steps that other programs take: packages, services, and commands where nothing else does."""

from __future__ import annotations

import hashlib
import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import NotHere, StepFailed
from ...node.journal import printable
from ...programs import find_program
from .step import Change

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .record import Record

PACKAGES_TIMEOUT_S = 600.0
SERVICE_TIMEOUT_S = 90.0

_APT_ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "l"}
# Another apt may be at work while a machine boots.
_APT = ("apt-get", "--quiet", "--yes", "--option=DPkg::Lock::Timeout=300")


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
        old = (record.get(self.name) or {}).get("installed", [])
        entry = {"kind": self.kind, "title": self.title, "installed": sorted({*old, *missing})}
        record.begin(self.name, entry)
        if find_program("apt-get"):
            _run([*_APT, "install", "--no-install-recommends", *missing], PACKAGES_TIMEOUT_S, _APT_ENVIRONMENT)
        else:
            _run(["dnf", "--quiet", "--assumeyes", "install", *missing], PACKAGES_TIMEOUT_S)
        record.done(self.name, entry)

    def undo(self, record: Record) -> str:
        installed = (record.get(self.name) or {}).get("installed", [])
        present = [name for name in installed if name not in _missing(installed, record.root)]
        if present and record.root == "/":
            if find_program("apt-get"):
                _run([*_APT, "remove", *present], PACKAGES_TIMEOUT_S, _APT_ENVIRONMENT)
            else:
                _run(["dnf", "--quiet", "--assumeyes", "remove", *present], PACKAGES_TIMEOUT_S)
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
        return Change(f"{' and '.join(to_do)} {self.unit}") if to_do else None

    def apply(self, record: Record) -> None:
        to_do = self._to_do(record)
        old = record.get(self.name) or {}
        entry: dict[str, Any] = {
            "kind": self.kind,
            "unit": self.unit,
            "enabled": old.get("enabled", False) or "enable" in to_do,
            "started": old.get("started", False) or "start" in to_do,
            "digest": old.get("digest", ""),
        }
        record.begin(self.name, entry)
        if _runs_systemd(record):
            _systemctl(record, "daemon-reload")
        for verb in to_do:
            _systemctl(record, verb, self.unit)
        record.done(self.name, {**entry, "digest": self._digest(record)})

    def undo(self, record: Record) -> str:
        entry = record.get(self.name) or {}
        try:
            if entry.get("started") and _runs_systemd(record):
                _systemctl(record, "stop", self.unit)
            if entry.get("enabled"):
                _systemctl(record, "disable", self.unit)
        except NotHere:
            pass
        record.forget(self.name)
        return ""

    def _to_do(self, record: Record) -> list[str]:
        verbs = []
        if not _says(record, "is-enabled", self.unit, ("enabled", "static", "alias", "indirect")):
            verbs.append("enable")
        if self.start and _runs_systemd(record):
            if not _says(record, "is-active", self.unit, ("active", "activating")):
                verbs.append("start")
            elif self.watches and self._digest(record) != (record.get(self.name) or {}).get("digest"):
                verbs.append("restart")
        return verbs

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


def _missing(names: Sequence[str], root: str) -> list[str]:
    if not names:
        return []
    if find_program("dpkg-query") and os.path.isdir(f"{root.rstrip('/')}/var/lib/dpkg"):
        command = ["dpkg-query", f"--admindir={root.rstrip('/')}/var/lib/dpkg", "--show"]
        asked = _ask([*command, "--showformat=${db:Status-Abbrev} ${Package}\\n", *names])
        present = {line.split()[-1] for line in asked.splitlines() if line.startswith("ii")}
    elif find_program("rpm"):
        present = set(_ask(["rpm", f"--root={root}", "--query", "--queryformat=%{NAME}\\n", *names]).splitlines())
    else:
        raise NotHere("neither dpkg nor rpm is here", hint=f"install {', '.join(names)} as this system does")
    return [name for name in names if name not in present]


def _runs_systemd(record: Record) -> bool:
    return record.root == "/" and os.path.isdir("/run/systemd/system")


def _says(record: Record, verb: str, unit: str, answers: tuple[str, ...]) -> bool:
    return _ask([*_systemctl_command(record), verb, unit]).strip() in answers


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
