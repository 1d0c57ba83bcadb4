"""Runs a command on nodes by srun: a small job for each node, so that one that hangs keeps nobody waiting."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING

from ..slurm.commands import own_environment
from ..slurm.srun import cancel_by_name, is_busy_answer, run_on_node
from .rollout import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..slurm_state import SlurmNode

IMMEDIATE_S = 5
"""How long Slurm may take to find room on a node: long enough for a busy scheduler, too short for a job to end."""

_END_S = 3.0
_OUTPUT_LIMIT_BYTES = 64 << 10


class Srun:
    """Runs commands by srun.

    Args:
        fan_out: How many nodes at a time.
        timeout_s: How long one node may take, in seconds.
    """

    name = "srun"

    def __init__(self, fan_out: int, timeout_s: float) -> None:
        self._fan_out = fan_out
        self._timeout_s = timeout_s
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def why_not(self, node: SlurmNode) -> str:
        """Slurm starts nothing on a node that is down or drained, not even for root."""
        if node.takes_jobs:
            return ""
        if node.is_down:
            return "down" if "*" not in node.marks else f"{node.state}, and does not answer"
        return node.state if node.partition else f"{node.state}, and in no partition that is up"

    def is_busy(self, answer: Answer) -> bool:
        return is_busy_answer(answer.output)

    def run(self, nodes: Sequence[SlurmNode], command: Sequence[str], on_answer: Callable[[Answer], None]) -> None:
        with ThreadPoolExecutor(max_workers=min(self._fan_out, len(nodes))) as pool:
            futures = [pool.submit(self._run_on, node, command) for node in nodes]
            try:
                for future in as_completed(futures):
                    on_answer(future.result())
            except BaseException:
                self._stop()
                for future in futures:
                    future.cancel()
                raise

    def _run_on(self, node: SlurmNode, command: Sequence[str]) -> Answer:
        # Named for this very run and node, so that what is left of it can be cancelled, and nothing else.
        job_name = f"slurm-fsx-{os.getpid()}-{node.name}"
        immediate_s = min(IMMEDIATE_S, int(self._timeout_s / 2))
        line = run_on_node(node, command, job_name=job_name, immediate_s=immediate_s, limit_s=self._timeout_s)
        # A file, not a pipe: nothing waits for a grandchild that keeps it open.
        with tempfile.TemporaryFile() as output:
            with self._lock:
                if self._stopped:
                    return Answer(node.name, 1, "interrupted")
                try:
                    process = subprocess.Popen(
                        line,
                        env=own_environment(),
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=output,
                        start_new_session=True,
                    )
                except OSError as error:
                    return Answer(node.name, 127, f"srun cannot be run: {error.strerror}")
                self._running.add(process)
            try:
                code: int | None = process.wait(self._timeout_s)
            except subprocess.TimeoutExpired:
                _end(process)
                cancel_by_name(job_name)
                code = None
            finally:
                with self._lock:
                    self._running.discard(process)
            if self._stopped:
                cancel_by_name(job_name)
            size = os.fstat(output.fileno()).st_size
            output.seek(max(0, size - _OUTPUT_LIMIT_BYTES))
            return Answer(node.name, code, output.read().decode(errors="replace"))

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for process in running:
            _send(process, signal.SIGTERM)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End srun: it cancels its job at SIGTERM, and where that does not help it is killed."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        _send(process, sign)
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            continue
        return


def _send(process: subprocess.Popen[bytes], sign: signal.Signals) -> None:
    try:
        os.killpg(process.pid, sign)
    except ProcessLookupError:
        pass
