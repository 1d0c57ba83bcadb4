"""One machine of the cluster: its namespaces, the commands and daemons that run in there, and its faults."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from . import node_init
from .errors import LabError
from .node_root import RootPlan, User
from .syslog import SyslogLine, read_syslog

ROOT = User("root", 0)
CHECKOUT = Path(__file__).resolve().parent.parent

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Daemon:
    """A long-running process of a node.

    Attributes:
        pid: Its process id as the host sees it; 0 if it ended at once.
    """

    def __init__(self, name: str, process: subprocess.Popen[bytes]) -> None:
        self.name = name
        self.pid = _only_child(process)
        self._process = process

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def stop(self, signal_number: int = signal.SIGTERM, timeout_s: float = 10) -> None:
        """Send the daemon a signal that ends it, and wait until it has."""
        if self.is_running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal_number)
            self._process.wait(timeout_s)

    def pause(self) -> None:
        """Have the daemon hang: it answers nobody until `go_on`."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Have a daemon that was paused go on. What started it stops with it, so it is woken, too."""
        for pid in (self.pid, self._process.pid):
            os.kill(pid, signal.SIGCONT)

    def collect(self, timeout_s: float = 10) -> None:
        """Take the status of a daemon that has gone with its machine: its process id may be another's by now."""
        self._process.wait(timeout_s)


class Node:
    """A machine: mount, process, host name and IPC namespaces of its own, and the cluster's network.

    Args:
        plan: What its root is made of.
        users: Who may run commands on it, by name.
        log: Where its /var/log lies on the host; stays when the node is gone.
        addresses: The cluster's network addresses; the first node makes the network.
        network_of: A node whose network this one joins, or None to make it.
    """

    def __init__(
        self,
        plan: RootPlan,
        log: Path,
        addresses: Sequence[str] = (),
        network_of: Node | None = None,
    ) -> None:
        self.name = plan.hostname
        self.log = log
        self.pid = 0
        self._plan = plan
        self._addresses = list(addresses)
        self._network_of = network_of
        self._users = {user.name: user for user in (ROOT, *plan.users)}
        self._holder: subprocess.Popen[str] | None = None
        self._hung_fs: Daemon | None = None
        self._daemons: list[Daemon] = []

    def __enter__(self) -> Node:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def root(self) -> Path:
        """The node's root folder as the host sees it. Absolute symbolic links in there lead to the host's files."""
        return Path(f"/proc/{self.pid}/root")

    def path(self, path: str) -> Path:
        """Where a file of the node, e.g. ``/run/slurm-fsx/jobs/1.env``, is for the host."""
        return self.root / path.lstrip("/")

    def write(self, path: str, text: str, mode: int = 0o644) -> Path:
        """Put a file on the node, owned by root, with folders as needed."""
        file = self.path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
        return file

    @property
    def syslog(self) -> list[SyslogLine]:
        """What the node's programs have told syslog, oldest first."""
        return read_syslog(self.log / "syslog", self.name)

    def begin_start(self, lock: int | None = None) -> None:
        """Have the machine start; `finish_start` waits for it.

        Args:
            lock: A descriptor that the machine holds open for as long as it lives.
        """
        plan = {
            **self._plan._asdict(),
            "addresses": self._addresses,
            "network_of": self._network_of.pid if self._network_of else None,
            "lock": lock,
        }
        with (self.log / "init.log").open("w") as errors:
            self._holder = subprocess.Popen(
                [sys.executable, "-E", "-S", "-m", node_init.__name__, json.dumps(plan)],
                cwd=CHECKOUT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                pass_fds=() if lock is None else (lock,),
                start_new_session=True,  # Ctrl-C is for the owner, who then stops the nodes in good order
            )

    def finish_start(self) -> None:
        """Wait until the machine runs.

        Raises:
            LabError: its root could not be built.
        """
        assert self._holder is not None
        assert self._holder.stdout is not None
        answer = self._holder.stdout.readline().strip()
        if not answer:
            self.stop()
            raise LabError(f"node {self.name} did not start: {(self.log / 'init.log').read_text().strip()}")
        self.pid = int(answer)

    def start(self, lock: int | None = None) -> None:
        """Start the machine, without any daemon; `lock` as for `begin_start`."""
        self.begin_start(lock)
        self.finish_start()

    def begin_stop(self) -> None:
        """Cut the machine's power; `stop` waits until it is gone."""
        if self._holder is not None and self._holder.stdin is not None:
            self._holder.stdin.close()

    def stop(self) -> None:
        """Switch the machine off, as a power cut would: no process, mount or socket of it is left."""
        if self._holder is None:
            return
        assert self._holder.stdout is not None
        self.begin_stop()
        try:
            self._holder.wait(5)
        except subprocess.TimeoutExpired:  # a process that this one has forked holds the pipe open
            self._holder.kill()
            self._holder.wait(30)
        self._holder.stdout.close()
        self._holder = None
        for daemon in self._daemons:
            daemon.collect()
        self._daemons.clear()
        self._hung_fs = None
        self.pid = 0

    def run(
        self,
        arguments: Sequence[str | os.PathLike[str]],
        user: str = "root",
        *,
        env: dict[str, str] | None = None,
        cwd: str | None = None,
        input: str | None = None,
        timeout_s: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the node to its end.

        Args:
            arguments: The command and its arguments.
            user: Whose command it is.
            env: Variables in addition to those that a login gives.
            cwd: Where it runs; the user's home unless told.
            input: What it reads on standard input; nothing unless told.
            timeout_s: How long it may take.

        Raises:
            subprocess.TimeoutExpired: it took too long; it and its process group have been killed.
        """
        process: subprocess.Popen[str] = subprocess.Popen(
            self._enter(arguments, user, env, cwd),
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            output, errors = process.communicate(input, timeout_s)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    stream.close()
            raise
        return subprocess.CompletedProcess([os.fspath(word) for word in arguments], process.returncode, output, errors)

    def start_process(
        self,
        arguments: Sequence[str | os.PathLike[str]],
        user: str = "root",
        *,
        env: dict[str, str] | None = None,
        cwd: str | None = None,
        stdin: int | IO[Any] = subprocess.DEVNULL,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a command on the node and go on; the caller takes its status."""
        return subprocess.Popen(
            self._enter(arguments, user, env, cwd),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )

    def start_daemon(self, name: str, arguments: Sequence[str | os.PathLike[str]], user: str = "root") -> Daemon:
        """Start a program that stays in the foreground; what it prints goes to /var/log/NAME.out."""
        with (self.log / f"{name}.out").open("ab") as output:
            process = subprocess.Popen(
                self._enter(arguments, user, None, None),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        daemon = Daemon(name, process)
        self._daemons.append(daemon)
        return daemon

    def hang_fsx(self, *, killable: bool = False) -> None:
        """Have every call on /fsx hang, as on a Lustre client whose server is away.

        Files and folders that are open already stay as they were, and so do namespaces that do not receive mounts.

        Args:
            killable: Whether SIGKILL ends a process that hangs. On Lustre it mostly does not.
        """
        if self._hung_fs is None:
            arguments = [
                *self.python(),
                str(CHECKOUT / "lab/hung_fs.py"),
                "/fsx",
                *(["--killable"] if killable else []),
            ]
            self._hung_fs = self.start_daemon("hung_fs", arguments)
            deadline = time.monotonic() + 5
            while " - fuse hung " not in Path(f"/proc/{self.pid}/mountinfo").read_text():
                time.sleep(0.005)
                if time.monotonic() > deadline:
                    raise LabError(f"/fsx on {self.name} does not hang: {(self.log / 'hung_fs.out').read_text()}")

    def heal_fsx(self) -> None:
        """Have /fsx answer again; calls that hang end with an error."""
        if self._hung_fs is not None:
            self._hung_fs.stop()
            self._hung_fs = None
            self.run(["umount", "--lazy", "/fsx"])

    def python(self) -> list[str]:
        """The interpreter as the node has it; one below /usr may be another release's there."""
        interpreter = os.path.realpath(sys.executable)
        return ["/usr/bin/python3" if interpreter.startswith("/usr/bin/") else interpreter, "-I", "-S"]

    def _enter(
        self,
        arguments: Sequence[str | os.PathLike[str]],
        user: str,
        env: dict[str, str] | None,
        cwd: str | None,
    ) -> list[str]:
        """The command line that runs `arguments` on the node as that user, with the environment of a login."""
        who = self._users[user]
        home = "/root" if who == ROOT else who.home
        login = {"HOME": home, "USER": user, "LOGNAME": user, "SHELL": "/bin/sh", "PATH": _PATH, "LANG": "C.UTF-8"}
        return [
            "nsenter", f"--target={self.pid}", "--mount", "--uts", "--ipc", "--net", "--pid",
            f"--setgid={who.uid}", f"--setuid={who.uid}",
            "/usr/bin/env", "-i", f"--chdir={cwd or home}", *(f"{n}={v}" for n, v in {**login, **(env or {})}.items()),
            *(os.fspath(word) for word in arguments),
        ]  # fmt: skip


def _only_child(process: subprocess.Popen[bytes]) -> int:
    """Find the process that nsenter has forked into the node; 0 where it has ended already."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while process.poll() is None:
        found = children.read_text().split()
        if found:
            return int(found[0])
        time.sleep(0.001)
    return 0
