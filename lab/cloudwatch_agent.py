"""A stand-in for the CloudWatch agent's control program, which no package registry has.

``amazon-cloudwatch-agent-ctl -a append-config|fetch-config|remove-config -m ec2 -c file:PATH [-s]`` does with the files
in ``../etc`` what the real one is documented to do:

* a file's copy is called ``file_NAME``, and replaces one of that name; fetch-config takes all others away;
* the copies are merged, and two that give one key different values are refused: nothing is changed then;
* with ``-s`` the agent is started again, here a line in ``../logs/starts``.

It runs with a node's own Python, so it imports nothing of the lab.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from pathlib import Path
from typing import Any

# Source: the agent's translator, which merges these key by key, and takes every other value as one.
SECTIONS = {"agent", "logs", "logs_collected", "files", "metrics", "metrics_collected"}


class DifferentValues(ValueError):
    """Two files say different things of one key."""


def merge(one: dict[str, Any], other: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Merge two configurations.

    Raises:
        DifferentValues: as the agent says it.
    """
    merged = copy.deepcopy(one)
    for key, value in other.items():
        if key in SECTIONS and key in merged:
            merged[key] = merge(merged[key], value, f"{path}/{key}")
        elif key == "collect_list" and key in merged and path.endswith("/files"):
            merged[key] += [entry for entry in value if entry not in merged[key]]
        elif merged.setdefault(key, value) != value:
            raise DifferentValues(f"Different values are specified for {path}/{key}")
    return merged


def main() -> int:
    """Run as the control program; give its exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-a", choices=("append-config", "fetch-config", "remove-config"), required=True)
    parser.add_argument("-m", choices=("ec2", "onPremise", "onPrem", "auto"), default="ec2")
    parser.add_argument("-c", required=True)
    parser.add_argument("-s", action="store_true")
    given = parser.parse_args()
    home = Path(sys.argv[0]).absolute().parents[1]
    folder = home / "etc/amazon-cloudwatch-agent.d"
    folder.mkdir(parents=True, exist_ok=True)
    source = Path(given.c[len("file:") :])
    own = folder / f"file_{source.name}"
    if given.a == "remove-config":
        own.unlink()
    else:
        old = [] if given.a == "fetch-config" else [path for path in sorted(folder.iterdir()) if path != own]
        content = source.read_text()
        merged: dict[str, Any] = {}
        try:
            for text in [*(path.read_text() for path in old), content]:
                merged = merge(merged, json.loads(text))
        except DifferentValues as error:
            print(f"Under path : /  | Error : {error}\nConfiguration validation first phase failed.")
            return 1
        for path in folder.iterdir():
            if path not in old:
                path.unlink()
        own.write_text(content)
    if given.s:
        (home / "logs").mkdir(exist_ok=True)
        with open(home / "logs/starts", "a", encoding="ascii") as log:
            log.write("started\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
