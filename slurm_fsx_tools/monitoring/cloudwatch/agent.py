"""Amazon's CloudWatch agent on a node: what it is told, and the commands that tell it more.

Source: ``amazon-cloudwatch-agent-ctl`` of the agent's package, its help and what it does.
"""

from __future__ import annotations

import json
import os
import re
import stat
from typing import Any

from ...errors import UntrustedFile
from ...files import read_all

AGENT = "/opt/aws/amazon-cloudwatch-agent"
"""Where the package puts everything."""

CONTROL = f"{AGENT}/bin/amazon-cloudwatch-agent-ctl"

_LIMIT_BYTES = 1 << 22


class CloudWatchAgent:
    """The agent of this node.

    Args:
        control: Its control program; configurations are in ``../etc``, as the package lays them out.
    """

    def __init__(self, control: str = CONTROL) -> None:
        self.control = control
        self._home = os.path.dirname(os.path.dirname(os.path.abspath(control)))

    def is_installed(self) -> bool:
        """Whether there is a control program."""
        return os.access(self.control, os.X_OK)

    def version(self) -> tuple[int, ...]:
        """Give its version, e.g. ``(1, 300070, 0)``; nothing where it is unknown."""
        try:
            with open(f"{self._home}/bin/CWAGENT_VERSION", encoding="ascii", errors="replace") as file:
                return tuple(int(number) for number in re.findall(r"\d+", file.read(64))[:3])
        except OSError:
            return ()

    def others(self, path: str) -> list[dict[str, Any]]:
        """Give the configurations that it was told, but for the one that was appended from `path`.

        Among them is the file that ParallelCluster writes at a node's first boot, before it appends that.
        """
        own = os.path.basename(self.copy_of(path))
        folder = f"{self._home}/etc/amazon-cloudwatch-agent.d"
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            names = []
        # .tmp: of an append that was refused; the agent itself clears it away at the next one.
        paths = [f"{folder}/{name}" for name in names if name != own and not name.endswith(".tmp")]
        contents = map(_read_json, [f"{self._home}/etc/amazon-cloudwatch-agent.json", *paths])
        return [content for content in contents if isinstance(content, dict)]

    def copy_of(self, path: str) -> str:
        """Name the agent's copy of an appended file."""
        return f"{self._home}/etc/amazon-cloudwatch-agent.d/file_{re.sub('[ :]', '_', os.path.basename(path))}"

    def has(self, path: str) -> bool:
        """Whether it was told what a file says now."""
        copy = _read_json(self.copy_of(path))
        return copy is not None and copy == _read_json(path)

    def append_command(self, path: str) -> tuple[str, ...]:
        """Give the command that adds a file to what the agent does, and restarts it.

        A file of the same name that was added before is replaced, and all others stay. Where the agent does not take
        it, the command fails, and the agent goes on with what it had.
        """
        return self._command("append-config", path)

    def remove_command(self, path: str) -> tuple[str, ...]:
        """Give the command that takes a file from what the agent does, if it is there, and restarts it."""
        unless = 'test ! -e "$0" || test ! -x "$1" || exec "$@"'
        return ("/bin/sh", "-c", unless, self.copy_of(path), *self._command("remove-config", path))

    def _command(self, action: str, path: str) -> tuple[str, ...]:
        # As ParallelCluster calls it; -s: restart afterwards.
        return (self.control, "-a", action, "-m", "ec2", "-c", f"file:{path}", "-s")


def _read_json(path: str) -> Any:
    """Give a file's content; None where it is missing, or no JSON: then the agent itself says so."""
    try:
        # O_NONBLOCK: the agent may run as a user of its own, to whom its folders belong; a FIFO must not hang root.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            return json.loads(read_all(fd, path, _LIMIT_BYTES)) if stat.S_ISREG(os.fstat(fd).st_mode) else None
        finally:
            os.close(fd)
    except (OSError, ValueError, UntrustedFile):
        return None
