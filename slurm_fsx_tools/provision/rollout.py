"""Fan-out to running nodes: one command on each, at most some at a time, and what became of it node by node."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..errors import SlurmFsxError
from ..files import read_trusted, write_atomically
from ..node.journal import printable
from ..node_sets import fold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ..slurm_state import SlurmNode

OK = "ok"
FAILED = "failed"
TIMED_OUT = "timed out"
BUSY = "busy"
NOT_TRIED = "not tried"
AT_BOOT = "at boot"
"""A node that is powered off: it runs its set-up when it boots, so it needs nothing now."""

TO_DO = "to do"
"""In a plan alone."""

DONE = (OK, AT_BOOT)
MESSAGE_LIMIT = 300
STATE_FORMAT = 1


class NodeResult(NamedTuple):
    """What became of one node."""

    node: str
    outcome: str
    """One of the constants above."""

    message: str = ""


class Answer(NamedTuple):
    """What a command on a node ended with."""

    node: str
    code: int | None
    """Its exit code; None where it was ended because its time was over."""

    output: str
    """What it printed, and what the transport had to say; the end of it at least."""


class Transport(Protocol):
    """A way to run a command as root on nodes."""

    name: str

    def why_not(self, node: SlurmNode) -> str:
        """Say why a node cannot be reached this way now; empty if it can."""

    def is_busy(self, answer: Answer) -> bool:
        """Whether the command was not started because jobs fill the node."""

    def run(self, nodes: Sequence[SlurmNode], command: Sequence[str], on_answer: Callable[[Answer], None]) -> None:
        """Run a command on all the nodes, and tell each one's answer as it comes.

        Nothing that it started here is left when it returns or raises, KeyboardInterrupt included.
        """


def roll_out(
    nodes: Iterable[SlurmNode],
    command: Sequence[str],
    transport: Transport,
    read: Callable[[Answer], NodeResult],
    on_result: Callable[[NodeResult], None],
) -> list[NodeResult]:
    """Run a command on nodes.

    Args:
        nodes: All of them, also those that cannot be reached now.
        command: The program, by its whole path, and its arguments.
        transport: How.
        read: Makes a result of the answer of a node where the command ran to its end.
        on_result: Told of each result as it is known.

    Returns:
        A result for each node, in the given order.
    """
    found: dict[str, NodeResult] = {}

    def tell(result: NodeResult) -> None:
        found[result.node] = result
        on_result(result)

    def take(answer: Answer) -> None:
        if answer.code is None:
            tell(NodeResult(answer.node, TIMED_OUT, "no answer in time"))
        elif answer.code != 0 and transport.is_busy(answer):
            tell(NodeResult(answer.node, BUSY, "jobs fill it: run this again with --failed later, or with --by ssh"))
        else:
            tell(read(answer))

    listed = list(nodes)
    reached = []
    for node in listed:
        reason = transport.why_not(node)
        if node.is_powered_off:
            tell(NodeResult(node.name, AT_BOOT, "powered off: it is set up when it boots"))
        elif reason:
            tell(NodeResult(node.name, NOT_TRIED, f"{reason}: not tried"))
        else:
            reached.append(node)
    if reached:
        transport.run(reached, command, take)
    for node in reached:
        if node.name not in found:
            tell(NodeResult(node.name, FAILED, f"{transport.name} told nothing of it"))
    return [found[node.name] for node in listed]


def last_words(answer: Answer) -> str:
    """Give the last line that a node printed, fit for a terminal, with how its command ended."""
    lines = [line.strip() for line in answer.output.splitlines() if line.strip()]
    said = printable(lines[-1])[:MESSAGE_LIMIT] if lines else "it said nothing"
    return f"ended with {answer.code}: {said}"


def gather(results: Iterable[NodeResult]) -> list[tuple[str, str, str]]:
    """Put nodes with the same outcome and message together: node set, outcome, message; the trouble last."""
    groups: dict[tuple[str, str], list[str]] = {}
    for result in results:
        # A node's own name in a message would keep equal ones apart.
        message = result.message.replace(result.node, "%h") if len(result.node) > 2 else result.message
        groups.setdefault((result.outcome, message), []).append(result.node)
    order = {outcome: place for place, outcome in enumerate((OK, TO_DO, AT_BOOT, BUSY, NOT_TRIED, TIMED_OUT, FAILED))}
    rows = [
        (fold(names), outcome, message.replace("%h", names[0] if len(names) == 1 else "it"))
        for (outcome, message), names in groups.items()
    ]
    return sorted(rows, key=lambda row: (order[row[1]], row[0]))


def exit_code(results: Sequence[NodeResult]) -> int:
    """Give 0 if all nodes are done with, 3 if some are, 1 if none is."""
    done = sum(result.outcome in DONE for result in results)
    return 0 if done == len(results) else 3 if done else 1


def remember(results: Iterable[NodeResult], path: str) -> None:
    """Write down which nodes are still to be done; what an earlier run left stays, unless it is done now.

    Raises:
        OSError: it cannot be written.
    """
    left = set(unfinished(path))
    for result in results:
        if result.outcome in DONE:
            left.discard(result.node)
        else:
            left.add(result.node)
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    document = {"format": STATE_FORMAT, "unfinished": sorted(left), "written_s": time.time()}
    write_atomically(path, json.dumps(document).encode())


def unfinished(path: str) -> list[str]:
    """Give the nodes that earlier runs did not get done; none where nothing can be read."""
    try:
        document = json.loads(read_trusted(path))
        if document["format"] != STATE_FORMAT:
            return []
        return [str(name) for name in document["unfinished"]]
    except (OSError, SlurmFsxError, ValueError, KeyError, TypeError):
        return []
