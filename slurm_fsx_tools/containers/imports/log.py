"""Logs of imports in the shared file system: one for all, and one for each image."""

from __future__ import annotations

import errno
import os
import threading
import time
from typing import TYPE_CHECKING

from ...folders import make_folder, open_log
from .state import DONE, FAILED, KEPT, UNCHANGED

if TYPE_CHECKING:
    from collections.abc import Callable

    from .state import Progress

MAIN_FILE = "ngc-download.log"
IMAGE_FOLDER = "container-downloads"
_MODE = 0o644
_FOLDER_MODE = 0o755


class ImportLog:
    """Writes lines with their time. No secret is in them: none is in what imports report.

    Args:
        folder: ``FSX/logs``; made if it is missing.
        clock: Seconds since 1970.

    Raises:
        OSError, UntrustedFile: nothing can be written there, or it is not safe to.
    """

    def __init__(self, folder: str, clock: Callable[[], float] = time.time) -> None:
        if not os.path.isdir(folder):
            make_folder(folder, _FOLDER_MODE)
        self.images = f"{folder}/{IMAGE_FOLDER}"
        make_folder(self.images, _FOLDER_MODE)
        self.path = f"{folder}/{MAIN_FILE}"
        self._clock = clock
        self._lock = threading.Lock()
        self._main = open_log(self.path)
        self._files: dict[str, int] = {}
        self._phases: dict[str, str] = {}

    def write(self, text: str) -> None:
        """Write a line into the log for all."""
        self._append(self._main, text)

    def tell(self, progress: Progress) -> None:
        """Write what is new: each phase, and what programs say."""
        with self._lock:
            is_new = self._phases.get(progress.file) != progress.phase
            self._phases[progress.file] = progress.phase
            if not is_new and not progress.text:
                return
            if progress.file not in self._files:
                self._files[progress.file] = open_log(f"{self.images}/{progress.file}.log")
        self._append(self._files[progress.file], ": ".join(filter(None, (progress.phase, progress.text))))
        if is_new:
            text = progress.text if progress.phase in (FAILED, DONE, KEPT, UNCHANGED) else ""
            self._append(self._main, " ".join(filter(None, (f"{progress.file}: {progress.phase}", text))))

    def close(self) -> None:
        """Close all files."""
        for fd in (self._main, *self._files.values()):
            os.close(fd)

    def _append(self, fd: int, text: str) -> None:
        when = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(self._clock()))
        try:
            # One write: lines of several processes do not mix.
            os.write(fd, f"{when} {os.uname().nodename}[{os.getpid()}] {text}\n".encode(errors="backslashreplace"))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
