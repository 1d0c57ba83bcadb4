"""The first process of a node: builds its root, then reaps its orphans, keeps its syslog and dies with its owner.

Run as ``python3 -m lab.node_init PLAN`` by lab.node, with a pipe as standard input. The node ends when its owner, the
process that started it, closes that pipe or ends in whatever way: the kernel kills what is left in a process namespace
whose first process ends, and with its last process go the mounts.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
from pathlib import Path
from types import FrameType

from . import kernel
from .node_root import Bind, RootPlan, User, build_root

READY = "ready"

_SYSLOG = "/var/log/syslog"
_SIOCSIFADDR = 0x8916
_SIOCSIFNETMASK = 0x891C
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1


def main() -> int:
    """Start the node that the plan (JSON, first argument) describes, and stay until it has ended."""
    plan = json.loads(sys.argv[1])
    owner = os.pidfd_open(os.getppid())
    namespaces = kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWUTS | kernel.CLONE_NEWIPC
    if plan["network_of"]:
        kernel.enter_namespace(Path(f"/proc/{plan['network_of']}/ns/net"))
        kernel.unshare(namespaces)
    else:
        kernel.unshare(namespaces | kernel.CLONE_NEWNET)
        _bring_up_loopback(plan["addresses"])
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _first_process(plan, writer, owner)
    os.close(writer)
    if plan["lock"] is not None:
        os.close(plan["lock"])  # the node's first process has it
    if os.read(reader, len(READY)) == READY.encode():
        print(child, flush=True)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _first_process(plan: dict[str, object], report: int, owner: int) -> None:
    """Run as process 1 of the node; never returns."""
    kernel.die_with_parent(signal.SIGKILL)
    socket.sethostname(str(plan["hostname"]))
    build_root(_root_plan(plan))
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    log.bind("/dev/log")
    os.chmod("/dev/log", 0o666)
    signal.signal(signal.SIGCHLD, _reap)
    os.write(report, READY.encode())
    os.close(report)
    _keep_syslog(log, owner)
    os._exit(0)


def _root_plan(plan: dict[str, object]) -> RootPlan:
    fields = {name: plan[name] for name in RootPlan._fields}
    fields["binds"] = [Bind(*bind) for bind in plan["binds"]]  # type: ignore[attr-defined]
    fields["users"] = [User(*user) for user in plan["users"]]  # type: ignore[attr-defined]
    return RootPlan(**fields)  # type: ignore[arg-type]


def _reap(signal_number: int, frame: FrameType | None) -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _keep_syslog(log: socket.socket, owner: int) -> None:
    """Write what comes in at /dev/log to /var/log/syslog, one message a line, until the owner is gone.

    Both signs count: a process that the owner has forked may hold the pipe open beyond the owner's end.
    """
    file = os.open(_SYSLOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    waiting = select.poll()
    for descriptor in (sys.stdin.fileno(), owner, log.fileno()):
        waiting.register(descriptor, select.POLLIN)
    while True:
        for descriptor, _ in waiting.poll():
            if descriptor != log.fileno():
                return
            message = log.recv(65536).rstrip(b"\n\0")
            os.write(file, message.replace(b"\n", b"#012") + b"\n")


def _bring_up_loopback(addresses: list[str]) -> None:
    """Give the cluster's network its addresses: all on the loopback device, the only one there is.

    They must not be 127.0.0.1 alone: getaddrinfo does not count that as an address, and Slurm finds no host.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for number, address in enumerate(["127.0.0.1", *addresses]):
            name = b"lo" if number == 0 else f"lo:{number}".encode()
            mask = "255.0.0.0" if number == 0 else "255.255.255.255"
            for request, value in ((_SIOCSIFADDR, address), (_SIOCSIFNETMASK, mask)):
                fcntl.ioctl(control, request, _interface_request(name, value))
            flags = struct.unpack_from("H", fcntl.ioctl(control, _SIOCGIFFLAGS, name.ljust(40, b"\0")), 16)[0]
            fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", name, flags | _IFF_UP))


def _interface_request(name: bytes, address: str) -> bytes:
    return struct.pack("16sH2x4s16x", name, socket.AF_INET, socket.inet_aton(address))


if __name__ == "__main__":
    sys.exit(main())
