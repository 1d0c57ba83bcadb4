"""Runs a command on nodes over ssh, by ClusterShell: also where Slurm starts nothing."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from ..errors import SlurmFsxError
from .rollout import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..slurm_state import SlurmNode

CONNECT_S = 10
_OPTIONS = "-oBatchMode=yes -oLogLevel=ERROR"
"""Nobody is there to type a password, and banners are no answer. All else is up to root's ssh configuration."""


class Ssh:
    """Runs commands over ssh, as the user that root's ssh configuration says.

    Args:
        fan_out: How many nodes at a time.
        timeout_s: How long one node may take, in seconds.

    Raises:
        SlurmFsxError: ClusterShell is not installed.
    """

    name = "ssh"

    def __init__(self, fan_out: int, timeout_s: float) -> None:
        try:
            import ClusterShell.Task  # noqa: F401  # only whether it is there
        except ImportError as error:
            raise SlurmFsxError(
                "ssh to many nodes takes ClusterShell, which is not installed",
                hint="run: pip install 'slurm-fsx-tools[cluster]' into this installation, or use --by srun",
            ) from error
        self._fan_out = fan_out
        self._timeout_s = timeout_s

    def why_not(self, node: SlurmNode) -> str:
        """A drained node can be reached; one that Slurm hears nothing of would cost its whole time-out."""
        return "down" if node.is_down else ""

    def is_busy(self, answer: Answer) -> bool:
        return False

    def run(self, nodes: Sequence[SlurmNode], command: Sequence[str], on_answer: Callable[[Answer], None]) -> None:
        from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet
        from ClusterShell.Task import task_self, task_terminate

        task: Any = task_self()
        task.set_info("fanout", self._fan_out)
        task.set_info("connect_timeout", min(CONNECT_S, self._timeout_s))
        task.set_info("ssh_options", _OPTIONS)
        task.set_default("stderr", False)  # together with stdout
        names = NodeSet.fromlist([node.name for node in nodes], resolver=RESOLVER_NOGROUP)
        handler = _handler(on_answer)
        task.shell(shlex.join(command), nodes=names, handler=handler, timeout=self._timeout_s, stdin=False)
        try:
            task.resume()
        finally:
            task_terminate()  # which ends every ssh that still runs, as after Ctrl-C


def _handler(on_answer: Callable[[Answer], None]) -> Any:
    from ClusterShell.Event import EventHandler

    class Handler(EventHandler):  # type: ignore[misc]  # ClusterShell has no types
        """Tells of a node's answer when it is whole."""

        def ev_hup(self, worker: Any, node: str, rc: int) -> None:
            output = (worker.node_buffer(node) or b"").decode(errors="replace")
            on_answer(Answer(node, rc, output))

        def ev_close(self, worker: Any, timedout: bool) -> None:
            for node in worker.iter_keys_timeout():
                on_answer(Answer(node, None, ""))

    return Handler()
