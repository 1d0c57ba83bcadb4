"""The page ``docs/doctor.md``, made from the checks' own texts.

Write it anew with: slurm-fsx doctor --page >docs/doctor.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import live, nodes
from .checks import CHECKS, SYMPTOMS
from .engine import COMMON
from .findings import COMPUTE, HEAD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .findings import Trouble

_HEAD = """\
# Doctor: what is wrong, and what to do

```console
# slurm-fsx doctor                        this node
# slurm-fsx doctor --node gpu-[1-64]      these nodes, and what differs between them
# slurm-fsx doctor --fix                  also run the commands that do no harm
# slurm-fsx doctor --live                 also run a short job, and see what its task gets
# slurm-fsx doctor fsx-answers images     these checks alone
```

It changes nothing without `--fix`, takes a second or two where all is well, and never more than ten, whatever hangs:
each question is asked in a process of its own with a time limit, and what hangs is itself a finding. (`--node` waits
for nodes, 30 s for each, and `--live` for a job of its own, a minute at most.) Run it as root; it works for everybody,
and says what it could not see. A check counts on those nodes where it means something: by their daemons it tells head
node and compute nodes apart.

Each finding says what is wrong, why it counts, and the command that mends it. `--fix` runs that very command, without a
shell, where this page says "safe" (modes only where nobody could plant a link), and looks again: a fix is done when its
finding is gone. With `--node`, each node runs its own doctor, by a small job (`--by srun`) or over ssh, and equal
findings are one line with a set of nodes; a command is to be run on those, or once where it is about what all share.

It exits with 0 if all is well (notes, and what could not be checked, included), 1 if there are warnings, and 2 if there
are problems.

## As JSON

`--json` prints an object: `format` (1), `node` (empty with `--node`), `version`, `user`, `elapsed_s`, `verdict` (the
worst severity), `findings` and `fixes`. A finding has `check`, `severity` (`ok`, `note`, `unknown`, `warning` or
`problem`), `finding`, `why`, `command`, `source`, `is_safe` and `nodes`; each check has at least one. A fix has
`command`, `is_done`, `said` and `nodes`. What is there in format 1 stays; new keys may come.

This page is made from the checks' own texts: `slurm-fsx doctor --page >docs/doctor.md`.

## By symptom
"""


def format_page() -> str:
    """Give the page's text, in Markdown."""
    lines = [_HEAD.rstrip("\n"), "", "| symptom | checks |", "|---|---|"]
    lines += [f"| {each.name} | {', '.join(f'[{name}](#{name})' for name in each.checks)} |" for each in SYMPTOMS]
    lines += ["", "## Checks"]
    roles = {HEAD: " On the head node.", COMPUTE: " On compute nodes."}
    for check in CHECKS:
        lines += _section(check.name, f"Whether {check.about}.{roles.get(check.role, '')}", check.troubles)
    for extra in (live.EXTRA, *nodes.EXTRAS):
        lines += _section(extra.name, f"With `{extra.option}`: whether {extra.about}.", extra.troubles)
    lines += ["", "## What any check may say", "", *_rows(COMMON)]
    return "\n".join(lines) + "\n"


def _section(name: str, about: str, troubles: Sequence[Trouble]) -> list[str]:
    return ["", f"### {name}", "", about, "", *_rows(troubles)]


def _rows(troubles: Sequence[Trouble]) -> list[str]:
    lines = []
    for trouble in troubles:
        lines.append(f"- **{trouble.severity}**: {_plain(trouble.text)} {_plain(trouble.why)}")
        if trouble.command:
            lines.append(f"  Run: `{_plain(trouble.command)}`{' (safe)' if trouble.is_safe else ''}.")
        if trouble.source:
            lines.append(f"  Source: <{trouble.source}>")
    return lines


def _plain(text: str) -> str:
    """Write placeholders as a reader of manuals knows them: ``{path:04o}`` as PATH."""
    parts = []
    for index, part in enumerate(text.replace("{", "}").split("}")):
        parts.append(part.partition(":")[0].upper() if index % 2 else part)
    return "".join(parts)
