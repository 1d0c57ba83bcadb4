"""Conditions on versions and instance types, by which advice about a variable holds or not."""

from __future__ import annotations

from ..values import NamedTuple

Range = tuple[str, str]
"""From this version on, and before that one; empty for no bound."""

ANY: Range = ("", "")


class Facts(NamedTuple):
    """What is known of the software and the node that a job gets; empty texts stand for unknown."""

    nccl: str = ""
    ofi: str = ""
    """The AWS OFI NCCL plugin's version."""

    libfabric: str = ""
    instance: str = ""
    """The EC2 instance type, e.g. ``p5.48xlarge``."""


class When(NamedTuple):
    """A condition on facts.

    A version that is not known counts as the newest: advice for old software needs to be sure of it. An instance type
    that is not known is none of those named.
    """

    nccl: Range = ANY
    ofi: Range = ANY
    libfabric: Range = ANY
    instances: tuple[str, ...] = ()
    """Families, e.g. ``p5``, or whole types; empty for every one."""

    def holds(self, facts: Facts) -> bool:
        """Whether the condition is met."""
        ranges = ((self.nccl, facts.nccl), (self.ofi, facts.ofi), (self.libfabric, facts.libfabric))
        return all(_is_within(version, bounds) for bounds, version in ranges) and (
            not self.instances or facts.instance in self.instances or facts.instance.partition(".")[0] in self.instances
        )

    def __str__(self) -> str:
        """Say the condition in words; empty where it always holds."""
        ranges = (("NCCL", self.nccl), ("aws-ofi-nccl", self.ofi), ("libfabric", self.libfabric))
        words = [_say(name, bounds) for name, bounds in ranges if bounds != ANY]
        if self.instances:
            words.append(f"on {', '.join(self.instances)}")
        return "; ".join(words)


ALWAYS = When()


def parse_version(text: str) -> tuple[int, ...]:
    """Give a version's numbers, e.g. (2, 28, 7) of ``v2.28.7-1`` and (1, 17, 2) of ``1.17.2-aws``; () for none."""
    numbers = []
    for part in text.lstrip("v").replace("-", " ").replace("+", " ").replace("_", " ").split(" ", 1)[0].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
        if digits != part:
            break
    return tuple(numbers)


def _is_within(version: str, bounds: Range) -> bool:
    first, end = bounds
    numbers = parse_version(version)
    if not numbers:
        return not end
    return (not first or numbers >= parse_version(first)) and (not end or numbers < parse_version(end))


def _say(name: str, bounds: Range) -> str:
    first, end = bounds
    words = [f"from {first} on"] if first else []
    if end:
        words.append(f"before {end}")
    return f"{name} {', '.join(words)}"
