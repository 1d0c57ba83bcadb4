"""A FUSE file system that never answers: ``python3 hung_fs.py FOLDER [--killable]`` mounts it there, and waits.

It takes each request and keeps it, so whoever made it sleeps in the kernel beyond the reach of SIGKILL, as on a hung
Lustre client, until this process ends; with ``--killable`` it does not even take them, and SIGKILL helps. It runs with
a node's own Python, so it imports nothing of the lab. Source: linux/fuse.h, protocol 7.31.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import sys

_INIT = 26
_IN_HEADER = struct.Struct("<IIQQIIII")
_OUT_HEADER = struct.Struct("<IiQ")
_INIT_OUT = struct.Struct("<IIIIHHIIHH32x")
_BUFFER_BYTES = 1 << 20
_MS_NOSUID, _MS_NODEV = 2, 4


def mount(folder: str) -> int:
    """Mount the file system; give the descriptor that its requests come from."""
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    if libc.mount(b"hung", os.fsencode(folder), b"fuse", ctypes.c_ulong(_MS_NOSUID | _MS_NODEV), options) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), folder)
    return device


def keep_requests(device: int, killable: bool) -> None:
    """Answer the first request, which makes the mount usable, and no other."""
    while True:
        request = os.read(device, _BUFFER_BYTES)
        _, opcode, unique, *_ = _IN_HEADER.unpack_from(request)
        if opcode == _INIT:
            answer = _INIT_OUT.pack(7, 31, 0, 0, 12, 9, 1 << 16, 1, 16, 0)
            os.write(device, _OUT_HEADER.pack(_OUT_HEADER.size + len(answer), 0, unique) + answer)
            if killable:
                signal.pause()


if __name__ == "__main__":
    keep_requests(mount(sys.argv[1]), "--killable" in sys.argv[2:])
