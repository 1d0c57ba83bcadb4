"""What AWS ParallelCluster says of a node, in ``/etc/parallelcluster/cfnconfig``."""

from __future__ import annotations

import shlex

from .files import read_trusted

CFNCONFIG = "/etc/parallelcluster/cfnconfig"
"""A shell script of assignments. Source: aws-parallelcluster-cookbook, ``cfnconfig.erb``."""

HEAD = "HeadNode"
COMPUTE = "ComputeFleet"


def read_cfnconfig(path: str = CFNCONFIG) -> dict[str, str]:
    """Give the file's plain assignments; nothing where there is no ParallelCluster.

    The file is read, never run: ``$(…)`` in a value stays those characters, and lists are left out.

    Raises:
        UntrustedFile: somebody but root could have written it.
        OSError: it is there and cannot be read.
    """
    try:
        text = read_trusted(path).decode(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    values = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if not equals or not name.isidentifier() or value.startswith("("):
            continue
        try:
            words = shlex.split(value, comments=True)
        except ValueError:
            continue  # a quote that another line closes: none of what is asked for
        values[name] = words[0] if words else ""
    return values


def cluster_name(values: dict[str, str]) -> str:
    """Give the cluster's name, which is its stack's; empty where it has none."""
    return values.get("stack_name", "")
