"""What prolog and epilog say: a line in syslog, and the same line in the job's own log."""

from __future__ import annotations

import os
import syslog
import time

from ..errors import in_words
from ..files import remove

LONGEST_LINE = 1000
"""Characters of one message; what a user typed may be longer."""


class Journal:
    """Writes lines about one job on one node.

    Args:
        act: ``prolog`` or ``epilog``.
        job_id: Slurm's job id; empty while it is unknown.
        path: The job's own log, which need not exist; empty for none.
    """

    def __init__(self, act: str, job_id: str = "", path: str = "") -> None:
        self._prefix = f"{act} of job {job_id}" if job_id else act
        self._path = path
        self.failures = 0
        """How often something of ours failed."""
        syslog.openlog("slurm-fsx", syslog.LOG_PID, syslog.LOG_DAEMON)

    def info(self, text: str) -> None:
        """Say what an admin may want to know."""
        self._write(syslog.LOG_INFO, text)

    def warning(self, text: str) -> None:
        """Say what somebody should look at."""
        self._write(syslog.LOG_WARNING, text)

    def failure(self, what: str, error: BaseException) -> None:
        """Say that something of ours failed, and that the job goes on without it."""
        self.failures += 1
        self.warning(f"{what} failed, the job goes on without it: {in_words(error)}")

    def end(self) -> None:
        """Remove the job's own log; what is said from now on is in syslog alone."""
        path, self._path = self._path, ""
        try:
            if path:
                remove(path)
        except OSError as error:
            self.warning(f"the job's log stays: {error}")

    def _write(self, priority: int, text: str) -> None:
        line = f"{self._prefix}: {printable(text)[:LONGEST_LINE]}"
        syslog.syslog(priority, line)
        if self._path:
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z")
            try:
                fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
                try:
                    os.write(fd, f"{stamp} {line}\n".encode("utf-8", "replace"))
                finally:
                    os.close(fd)
            except OSError:
                pass  # a full /run: syslog has the line


def printable(text: str) -> str:
    """Escape what could end a line or steer a terminal: job names and plugin errors may hold anything."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
