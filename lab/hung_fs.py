"""A FUSE file system that never answers: ``python -m lab.hung_fs FOLDER`` mounts it there, says ``ready``, and waits.

It takes each request and keeps it, so whoever made it sleeps in the kernel beyond the reach of SIGKILL, as on a hung
Lustre client, until this process ends. Source: linux/fuse.h, protocol 7.31.
"""

from __future__ import annotations

import os
import struct
import sys

from .node import mount

_INIT = 26
_IN_HEADER = struct.Struct("<IIQQIIII")
_OUT_HEADER = struct.Struct("<IiQ")
_INIT_OUT = struct.Struct("<IIIIHHIIHH32x")
_BUFFER_BYTES = 1 << 20


def hang(folder: str) -> None:
    """Mount, answer the first request, and no other."""
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    mount("hung", folder, "fuse", data=f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other")
    ready = False
    while True:
        request = os.read(device, _BUFFER_BYTES)
        _, opcode, unique, *_ = _IN_HEADER.unpack_from(request)
        if opcode == _INIT:
            answer = _INIT_OUT.pack(7, 31, 0, 0, 12, 9, 1 << 16, 1, 16, 0)
            os.write(device, _OUT_HEADER.pack(_OUT_HEADER.size + len(answer), 0, unique) + answer)
        if not ready:
            ready = True
            print("ready", flush=True)


if __name__ == "__main__":
    hang(sys.argv[1])
