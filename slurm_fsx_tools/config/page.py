"""The page ``docs/config.md``, made from the one table of settings.

Write it anew with: make pages
"""

from __future__ import annotations

import json
from itertools import groupby
from typing import TYPE_CHECKING

from .model import SETTINGS

if TYPE_CHECKING:
    from .model import Setting

_HEAD = """\
# Configuration

`/etc/slurm-fsx/config.yaml`, or what `SLURM_FSX_CONFIG` names. No file is needed: it holds what differs from the
defaults. It must be root's, and writable by root alone.

```yaml
containers:
  prefer: [nvcr.io/nvidia, docker.io/pytorch]
nccl: {profile: auto}
```

```console
$ slurm-fsx config show        every key with its value here, its default and its meaning
# slurm-fsx config check       file, line and key of each mistake
```

With `setup`, the file to edit is `/fsx/config/config.yaml`: `slurm-fsx setup node` copies it to each node's own disk,
where prologs read it. A mistake in it never fails a job: prologs say so in the log, and go by the last one that was
right, else by the defaults.

This page is made from the table in the code: `make pages`.
"""

_TITLES = {
    "": "Top level",
    "fsx": "The shared file system",
    "cluster": "The cluster",
    "containers": "Containers",
    "nccl": "NCCL",
    "monitoring": "Monitoring",
    "cloudwatch": "CloudWatch",
    "prolog": "Prolog and epilog",
}

_KINDS = {
    "str": "text",
    "optional path": "path, or empty",
    "size": "size in bytes, or as `500 GiB`",
    "count": "number from 1 on",
    "bool": "`true` or `false`",
    "list": "list of texts",
    "map": "texts by name",
    "instance type": "instance type, or empty",
    "profile": "name",
    "profiles": "variables by name",
}
"""What a value is, for readers; the word itself where it is one."""


def format_page() -> str:
    """Give the page's text, in Markdown."""
    lines = [_HEAD.rstrip("\n")]
    ordered = sorted(SETTINGS, key=lambda setting: list(_TITLES).index(_section(setting)))
    for section, settings in groupby(ordered, key=_section):
        lines += ["", f"## {_TITLES[section]}"]
        for setting in settings:
            lines += [
                "",
                f"### {setting.key}",
                "",
                setting.help,
                "",
                f"Value: {_kind(setting)}. Default: {_default(setting)}.",
            ]
    return "\n".join(lines) + "\n"


def _section(setting: Setting) -> str:
    return setting.key.rpartition(".")[0]


def _kind(setting: Setting) -> str:
    if setting.kind == "choice":
        return " or ".join(f"`{choice}`" for choice in setting.choices)
    kind = _KINDS.get(setting.kind, setting.kind)
    return (
        f"{kind}: {', '.join(f'`{choice}`' for choice in setting.choices)}, or one of yours"
        if setting.kind == "profile"
        else kind
    )


def _default(setting: Setting) -> str:
    if setting.default in ("", [], {}):
        return "empty"
    if setting.kind == "size":
        return f"`{setting.default >> 30} GiB`"
    return (
        f"`{setting.default if setting.kind in ('str', 'path', 'choice', 'profile') else json.dumps(setting.default)}`"
    )
