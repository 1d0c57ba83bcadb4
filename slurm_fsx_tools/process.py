"""Processes that can be told from later ones with the same id, and their kernel from others."""

from __future__ import annotations

import os


def kernel() -> str:
    """Name what a process id counts in: this boot of this machine, and the namespace; empty where nothing says."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def started_at(pid: int) -> int:
    """Give when a process started, in ticks since the boot; -1 where nothing says, 0 where it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b") ")[2].split()
    except OSError:
        return -1
    return 0 if fields[0] in b"ZX" else int(fields[19])  # proc(5): state is 3, starttime 22


def is_running(pid: int, started: int) -> bool:
    """Whether a process is the one that started then. In doubt it is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    now = started_at(pid)
    return now == -1 or started == -1 or now == started
