"""Runs the programs that fetch and build things: they end with us, and when nothing moves any more."""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import subprocess
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from .errors import ImportFailed, Interrupted, NoSpace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

STALL_S = 300.0
"""How long a program may neither read nor write nor say anything, before it counts as hung."""

_FOLDERS = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
_NAMESPACE = ("--pid", "--fork", "--kill-child", "--mount-proc")
_LOOK_S = 0.5
_END_S = 1.0
_KEPT_LINES = 20
_FULL = ("no space left on device", "disk quota exceeded")


class StopSign:
    """Whether the work should end: set by a signal, seen by every wait."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def check(self) -> None:
        """Raise Interrupted where it is set."""
        if self._event.is_set():
            raise Interrupted("the work was interrupted", hint="the same command goes on where this one ended")

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Be set by Ctrl-C, SIGTERM and SIGHUP, where they are not ignored, in a ``with`` block of the main thread."""
        signs = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {sign: signal.getsignal(sign) for sign in signs}
        for sign, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(sign, lambda *_: self.set())
        try:
            yield
        finally:
            for sign, handler in before.items():
                signal.signal(sign, handler)

    def sleep(self, seconds: float) -> None:
        """Wait, and raise Interrupted as soon as it is set."""
        self._event.wait(seconds)
        self.check()


class ProgramFailed(ImportFailed):
    """A program that ended with an error, or hung; its last lines are in the message."""


class Programs(NamedTuple):
    """How programs are run."""

    environment: Mapping[str, str]
    """Theirs is this and nothing else."""

    stop: StopSign
    stall_s: float = STALL_S

    def run(
        self,
        command: Sequence[str],
        *,
        cwd: str,
        on_line: Callable[[str], None] | None = None,
        on_look: Callable[[], None] | None = None,
    ) -> None:
        """Run a program to its end.

        It leads a process group of its own, and dies when this process does, even by SIGKILL. As root its children die
        with it, too: it is the first process of a PID namespace then.

        Args:
            command: The program and its arguments; never a secret, since every user can read them.
            cwd: Where it runs.
            on_line: Gets each line that it says.
            on_look: Called about twice a second.

        Raises:
            ProgramFailed: it ended with an error, or nothing moved for `stall_s`.
            NoSpace: it ended because a file system is full.
            Interrupted: the stop sign was set; the program has ended.
        """
        with subprocess.Popen(
            [*_leash(), *command],
            cwd=cwd,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            try:
                lines = self._watch(process, command[0], on_line, on_look)
            except BaseException:
                _end(process)
                raise
        if process.returncode:
            raise _failure(command, process.returncode, lines)

    def _watch(
        self,
        process: subprocess.Popen[bytes],
        program: str,
        on_line: Callable[[str], None] | None,
        on_look: Callable[[], None] | None,
    ) -> list[str]:
        assert process.stdout is not None
        lines: list[str] = []
        rest = b""
        activity = -1
        moved_s = time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            looked_s = 0.0
            while True:
                if selector.select(_LOOK_S):
                    chunk = os.read(process.stdout.fileno(), 1 << 16)
                    if not chunk:
                        break
                    moved_s = time.monotonic()
                    *whole, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
                    rest = rest[-(1 << 16) :]
                    for line in whole:
                        text = printable(line)
                        if not text:
                            continue
                        lines = [*lines[1 - _KEPT_LINES :], text]
                        if on_line is not None:
                            on_line(text)
                self.stop.check()
                now_s = time.monotonic()
                if now_s - looked_s < _LOOK_S:
                    continue
                looked_s = now_s
                if on_look is not None:
                    on_look()
                now_activity = _activity(process.pid)
                if now_activity != activity:
                    activity, moved_s = now_activity, now_s
                elif now_s - moved_s > self.stall_s:
                    raise ProgramFailed(
                        f"{program} neither read nor wrote anything for {self.stall_s:g} s, and was ended",
                        hint="see whether network and file system answer",
                    )
        if printable(rest):
            lines.append(printable(rest))
        process.wait()
        return lines


def find_program(name: str, root: str = "/") -> str | None:
    """Give the path of an installed program.

    Args:
        name: Its name.
        root: The root folder of the system that has it; its path is given as that system names it.
    """
    if root == "/":
        return shutil.which(name) or shutil.which(name, path=_FOLDERS)
    below = root.rstrip("/")
    paths = [f"{folder}/{name}" for folder in _FOLDERS.split(":")]
    # A link may name a path of that system, which leads elsewhere from here: that it is there has to do.
    return next((path for path in paths if _is_program(f"{below}{path}")), None)


def _is_program(path: str) -> bool:
    return os.path.islink(path) or (os.path.isfile(path) and os.access(path, os.X_OK))


def printable(line: bytes) -> str:
    """Give a line as text that cannot steer a terminal."""
    text = line.decode(errors="replace").strip()
    return text if text.isprintable() else "".join(char if char.isprintable() else " " for char in text).strip()


def _leash() -> list[str]:
    """Give what to put before a command so that it dies with this process."""
    leash = []
    setpriv = find_program("setpriv")
    if setpriv:
        leash += [setpriv, "--pdeathsig", "KILL"]
    unshare = find_program("unshare")
    if os.geteuid() == 0 and unshare and _can_unshare(unshare):
        leash += [unshare, *_NAMESPACE]
    return leash


def _can_unshare(unshare: str) -> bool:
    """Whether PID namespaces can be made here: a container may forbid it."""
    if unshare not in _unshares:
        tried = subprocess.run([unshare, *_NAMESPACE, "true"], check=False, capture_output=True)
        _unshares[unshare] = tried.returncode == 0
    return _unshares[unshare]


_unshares: dict[str, bool] = {}


def _activity(group: int) -> int:
    """Give how many bytes the processes of a session have read and written so far.

    Every read and write counts, of sockets and pipes too.
    """
    import psutil  # by those alone who run programs: more come for `find_program`

    total = 0
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == group:
                counters = process.io_counters()
                total += counters.read_chars + counters.write_chars
        except (OSError, psutil.Error):
            continue  # it has ended meanwhile, or is not ours
    return total


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program and all of its group: by SIGTERM, and when that does not do, by SIGKILL."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            pass
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            continue
        if sign == signal.SIGTERM:
            continue  # what it left behind in its group goes, too
    if process.stdout is not None:
        process.stdout.close()


def _failure(command: Sequence[str], code: int, lines: list[str]) -> ImportFailed:
    said = next((line for line in reversed(lines) if line), "it said nothing")
    if any(sign in line.lower() for line in lines for sign in _FULL):
        return NoSpace(
            f"{os.path.basename(command[0])} found no room: {said[:500]}", hint="make room, and run it again"
        )
    how = f"was ended by signal {-code}" if code < 0 else f"ended with {code}"
    return ProgramFailed(
        f"{os.path.basename(command[0])} {how}: {said[:500]}", hint="run it again: what was done so far is used"
    )
