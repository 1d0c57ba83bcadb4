"""Times two commands as whole processes, in turn, so that a machine that slows down slows both.

Run inside a node of the private cluster: ``python -m bench.pairs ROUNDS`` with ``{"value": [ARGV, ENVIRONMENT],
"floor": [ARGV, ENVIRONMENT]}`` on stdin prints the two medians in ms, as JSON.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time

WARM_UP = 3


def run_ms(argv: list[str], environment: dict[str, str]) -> float:
    """Start a command, wait for it, and give the time in ms."""
    null = [(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_RDWR, 0) for stream in (0, 1, 2)]
    before = time.perf_counter()
    child = os.posix_spawn(argv[0], argv, environment, file_actions=null)
    _, status = os.waitpid(child, 0)
    elapsed = time.perf_counter() - before
    if status != 0:
        raise SystemExit(f"{argv} ended with {os.waitstatus_to_exitcode(status)}")
    return elapsed * 1000


def medians(commands: dict[str, tuple[list[str], dict[str, str]]], rounds: int) -> dict[str, float]:
    """Give each command's median in ms over rounds in which all of them run once."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(WARM_UP + rounds):
        for name, (argv, environment) in commands.items():
            elapsed = run_ms(argv, environment)
            if number >= WARM_UP:
                times[name].append(elapsed)
    return {name: statistics.median(values) for name, values in times.items()}


if __name__ == "__main__":
    print(json.dumps(medians(json.load(sys.stdin), int(sys.argv[1]))))
