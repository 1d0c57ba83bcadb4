"""The page ``docs/nccl-variables.md``, made from the one table of variables.

Write it anew with: slurm-fsx nccl variables >docs/nccl-variables.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .variables import VARIABLES

if TYPE_CHECKING:
    from .variables import Variable

_HEAD = """\
# NCCL and EFA variables

What this software knows of each variable, and where that can be read. `slurm-fsx nccl env --profile auto --explain`
shows what your versions need, and `slurm-fsx nccl lint` names what does harm in an environment. A version that is not
known counts as the newest; an instance type that is not known is none of those named.

This page is made from the table in the code: `slurm-fsx nccl variables >docs/nccl-variables.md`.
"""


def format_page() -> str:
    """Give the page's text, in Markdown."""
    overview = ["", "| variable | needed | harmful |", "|---|---|---|"]
    for variable in VARIABLES:
        needed = "<br>".join(f"`{need.value}`: {need.when}" for need in variable.needs)
        harmful = "<br>".join(_harmful(variable))
        overview.append(f"| [`{variable.name}`](#{variable.name.lower()}) | {needed or '-'} | {harmful or '-'} |")
    return "\n".join([_HEAD.rstrip("\n"), *overview, *(line for each in VARIABLES for line in _section(each))]) + "\n"


def _harmful(variable: Variable) -> list[str]:
    result = []
    for harm in variable.harms:
        values = harm.values or "any value"
        result.append(f"{values}: {harm.when}" if str(harm.when) else values)
    return result


def _section(variable: Variable) -> list[str]:
    lines = ["", f"## {variable.name}", "", f"{_sentence(variable.purpose)} Source: <{variable.source}>"]
    for need in variable.needs:
        lines += ["", f"- Needed, with `{need.value}`, {_when(str(need.when))}: {need.why}. Source: <{need.source}>"]
    for harm in variable.harms:
        values = harm.values or "any value"
        lines += ["", f"- Harmful ({values}){_when(str(harm.when), ' ')}: {harm.why}. Source: <{harm.source}>"]
    if variable.advice:
        lines += ["", f"- {_sentence(variable.advice)}"]
    if variable.new_name:
        lines += ["", f"- Profile `auto` gives what a setup script exports by this name as `{variable.new_name}`."]
    return lines


def _when(condition: str, before: str = "") -> str:
    if not condition:
        return ""
    return f"{before}{condition}" if condition.startswith("on ") else f"{before}with {condition}"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
