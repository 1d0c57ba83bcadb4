"""Amazon's CloudWatch agent on a node: what it is told, and how it is told more.

Source: ``amazon-cloudwatch-agent-ctl`` of the agent's package, whose help and behaviour this follows.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import Any

from ..errors import SlurmFsxError

AGENT = "/opt/aws/amazon-cloudwatch-agent"
"""Where the package puts everything."""

CONTROL = f"{AGENT}/bin/amazon-cloudwatch-agent-ctl"
TIMEOUT_S = 300.0
"""As long as ParallelCluster waits for the same command, which restarts the agent."""

_LIMIT_BYTES = 1 << 22
_KEPT_LINES = 5


class AgentMissing(SlurmFsxError):
    """The agent's package is not installed."""


class AgentRefused(SlurmFsxError):
    """The agent did not take a configuration, or did not start with it."""


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
        # .tmp: of an append that failed; the next one clears it away.
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

    def append(self, path: str) -> None:
        """Add a configuration file to what it does, and restart it.

        A file of the same name that was added before is replaced; all others stay.

        Raises:
            AgentMissing: there is no agent.
            AgentRefused: it does not take the configuration, and goes on with what it had.
        """
        self._run("append-config", path)

    def take_away(self, path: str) -> None:
        """Have it forget a file that was added, whether or not the file is still there, and restart it.

        Raises:
            AgentMissing, AgentRefused: as for `append`.
        """
        if os.path.exists(self.copy_of(path)):
            self._run("remove-config", path)

    def _run(self, action: str, path: str) -> None:
        # As ParallelCluster calls it; -s: restart afterwards.
        command = [self.control, "-a", action, "-m", "ec2", "-c", f"file:{path}", "-s"]
        if not self.is_installed():
            raise AgentMissing(
                f"there is no CloudWatch agent here: {self.control} is missing",
                hint="install amazon-cloudwatch-agent (ParallelCluster's images have it), then run this again",
            )
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=TIMEOUT_S,
                check=False,
            )
        except OSError as error:
            raise AgentRefused(f"{self.control} cannot be run: {error.strerror}", hint="mend it") from error
        except subprocess.TimeoutExpired as error:
            raise AgentRefused(
                f"{action} did not end within {TIMEOUT_S:g} s", hint=f"run: {' '.join(command)}"
            ) from error
        if done.returncode != 0:
            lines = [line for line in done.stdout.decode(errors="replace").splitlines() if line.strip()]
            said = " / ".join(lines[-_KEPT_LINES:]) or "nothing"
            raise AgentRefused(
                f"the CloudWatch agent ended {action} with {done.returncode}: {said}",
                hint=f"see {self._home}/logs, or run: {' '.join(command)}",
            )


def _read_json(path: str) -> Any:
    """Give a file's content; None where it is missing, or no JSON: then the agent itself says so."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.loads(file.read(_LIMIT_BYTES))
    except (OSError, ValueError):
        return None
