"""A symbol of a shared library, read from its file: nothing of it is loaded or run."""

from __future__ import annotations

import struct

from ...errors import SlurmFsxError

LIMIT_BYTES = 64 << 20
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_DYNSYM = 11
_LOAD = 1


def read_number(data: bytes, name: str) -> int | None:
    """Give the 32-bit number that a symbol of a 64-bit little-endian ELF file stands for; None where it has none.

    Source: elf(5).

    Raises:
        SlurmFsxError: it is no such file.
    """
    try:
        if data[:6] != b"\x7fELF\x02\x01":
            raise ValueError
        header = _HEADER.unpack_from(data)
        segments_at, sections_at, segments, section_count = header[5], header[6], header[10], header[12]
        sections = [_SECTION.unpack_from(data, sections_at + n * _SECTION.size) for n in range(section_count)]
        for section in sections:
            if section[1] != _DYNSYM:
                continue
            names_at = sections[section[6]][4]
            for place in range(section[4], section[4] + section[5], _SYMBOL.size):
                name_at, _, _, _, address, _ = _SYMBOL.unpack_from(data, place)
                start = names_at + name_at
                if data[start : start + len(name) + 1] == name.encode() + b"\0":
                    for n in range(segments):
                        kind, _, offset, begins, _, size, _, _ = _SEGMENT.unpack_from(
                            data, segments_at + n * _SEGMENT.size
                        )
                        if kind == _LOAD and begins <= address < begins + size:
                            return int(struct.unpack_from("<I", data, offset + address - begins)[0])
    except (struct.error, ValueError, IndexError):
        raise SlurmFsxError("it is no shared library of 64 bits", hint="build it again") from None
    return None
