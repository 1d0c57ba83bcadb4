"""Sets of nodes in Slurm's range syntax: ``n[1-3,7],gpu-[01-16]`` read into names, and names written so."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .errors import InvalidName

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LIMIT = 100_000
"""More names than any cluster has nodes."""

_PART = re.compile(r"(?:[^,\[\]]|\[[^\[\]]*\])+")
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_RANGE = re.compile(r"([0-9]+)(?:-([0-9]+))?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LAST_NUMBER = re.compile(r"([0-9]+)(?=[^0-9]*$)")


def expand(text: str) -> list[str]:
    """Give the names of a set, each once, in its order.

    Raises:
        InvalidName: it is no set of node names.
    """
    names: dict[str, None] = {}
    text = text.strip()
    if not text or ",".join(_PART.findall(text)) != text:
        raise _invalid(text)
    for part in _PART.findall(text):
        for name in _expand_part(part, text):
            if not _NAME.fullmatch(name):
                raise _invalid(text)
            names[name] = None
            if len(names) > LIMIT:
                raise InvalidName(f"{text!r} stands for more than {LIMIT} nodes", hint="write fewer")
    return list(names)


def fold(names: Iterable[str]) -> str:
    """Give a set's shortest form with one range a name, e.g. ``n[1-3,7],login``; sorted."""
    groups: dict[tuple[str, str, int], list[int]] = {}
    plain: list[str] = []
    for name in dict.fromkeys(names):
        match = _LAST_NUMBER.search(name)
        if match is None:
            plain.append(name)
            continue
        digits = match[1]
        # 01 and 1 are different names: numbers with leading zeros have a group for each width.
        width = len(digits) if digits.startswith("0") and digits != "0" else 0
        groups.setdefault((name[: match.start()], name[match.end() :], width), []).append(int(digits))
    # 01 to 09 go on with 10: numbers that fill the width belong to its group.
    for (head, tail, width), numbers in list(groups.items()):
        if width and (head, tail, 0) in groups:
            loose = groups[head, tail, 0]
            numbers += [number for number in loose if len(str(number)) == width]
            groups[head, tail, 0] = [number for number in loose if len(str(number)) != width]
    parts = [
        (head, f"{head}{_ranges(sorted(numbers), width)}{tail}")
        for (head, tail, width), numbers in groups.items()
        if numbers
    ]
    return ",".join(text for _, text in sorted([*parts, *((name, name) for name in plain)]))


def _expand_part(part: str, whole: str) -> Iterator[str]:
    match = _BRACKETS.search(part)
    if match is None:
        yield part
        return
    for piece in match[1].split(","):
        bounds = _RANGE.fullmatch(piece)
        if bounds is None:
            raise _invalid(whole)
        first, last = bounds[1], bounds[2] or bounds[1]
        if int(last) < int(first) or int(last) - int(first) > LIMIT:
            raise _invalid(whole)
        for number in range(int(first), int(last) + 1):
            yield from _expand_part(f"{part[: match.start()]}{number:0{len(first)}d}{part[match.end() :]}", whole)


def _ranges(numbers: list[int], width: int) -> str:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    texts = [f"{a:0{width}d}" if a == b else f"{a:0{width}d}-{b:0{width}d}" for a, b in runs]
    return texts[0] if len(numbers) == 1 else f"[{','.join(texts)}]"


def _invalid(text: str) -> InvalidName:
    return InvalidName(f"{text!r} is no set of nodes", hint="write it as Slurm does, e.g. n[1-3,7]")
