"""What ``doctor --live`` looks at: the environment as a job's task sees it, by a job of one task."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from ...errors import SlurmFsxError
from ...nccl.probing import probe_command, read_probe
from ...node.journal import printable
from ...slurm.commands import own_environment
from ...slurm.srun import is_busy_answer, run_one_task
from .basics import slurm_program
from .findings import NOTE, OK, PROBLEM, UNKNOWN, Extra, Finding, Trouble, Unseen

if TYPE_CHECKING:
    from .findings import Context, Facts

IMMEDIATE_S = 15
JOB_S = 45.0
NEEDS = ("nccl",)
"""The probes whose facts it goes by."""

NO_ROOM = Trouble(
    UNKNOWN,
    "No node was free for a job within {limit:g} s, so none was run.",
    "What jobs see is not known.",
    "slurm-fsx doctor --live",
)
NO_JOB = Trouble(
    PROBLEM,
    "A job of one task did not run: {reason}.",
    "Other jobs will not, either.",
    "srun --ntasks=1 env",
)
NO_LIBRARIES = Trouble(
    PROBLEM,
    "A job does not get the shared NCCL: its LD_LIBRARY_PATH is {path}.",
    "Its programs use the system's NCCL, or none, and run on sockets.",
    "slurm-fsx doctor prolog-scripts prolog-flags plugstack plugin-build nccl-installed",
)
SWITCHED_OFF = NO_LIBRARIES._replace(
    severity=NOTE,
    text="A job does not get the shared NCCL: there is none, or nccl.enabled is false.",
    why="It ran well, but for that.",
    command="slurm-fsx doctor nccl-installed",
)
EXTRA = Extra(
    "job-environment",
    "a job runs, and its task gets the NCCL environment",
    "--live",
    (NO_ROOM, NO_JOB, NO_LIBRARIES, SWITCHED_OFF),
)


def look(context: Context, facts: Facts) -> list[Finding]:
    """Run a job, and see what its task got. Takes as long as it takes to start one, a minute at most."""
    return [finding._replace(check=EXTRA.name) for finding in _look(context, facts)]


def _look(context: Context, facts: Facts) -> list[Finding]:
    command = run_one_task(probe_command([]), immediate_s=IMMEDIATE_S, limit_s=JOB_S)
    try:
        done = subprocess.run(
            [slurm_program(command[0]), *command[1:]],
            env=own_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=IMMEDIATE_S + JOB_S,
            check=False,
        )
    except SlurmFsxError as error:
        return [NO_JOB.found(reason=error.message)]
    except subprocess.TimeoutExpired:
        return [NO_JOB.found(reason=f"it had not ended after {IMMEDIATE_S + JOB_S:g} s")]
    said = done.stderr.decode(errors="replace").strip()
    if is_busy_answer(said):
        return [NO_ROOM.found(limit=IMMEDIATE_S)]
    try:
        environment = read_probe(done.stdout).environment
    except SlurmFsxError:
        last = said.splitlines()[-1][:300] if said else f"srun ended with {done.returncode}"
        return [NO_JOB.found(reason=printable(last).rstrip("."))]
    return judge(context, facts, environment)


def judge(context: Context, facts: Facts, environment: dict[str, str]) -> list[Finding]:
    """See whether a task that got this environment finds the shared NCCL."""
    try:
        nccl = facts["nccl"]
    except Unseen as error:
        return [Finding("", UNKNOWN, f"A job ran, but what it should have got is not known: {error.message}.")]
    if not context.config["nccl.enabled"] or not nccl["is_there"]:
        return [SWITCHED_OFF.found()]
    text = environment.get("LD_LIBRARY_PATH", "")
    entries = [entry.rstrip("/") for entry in text.split(":")]
    found = next((folder for folder in nccl["library_folders"] if folder in entries), "")
    if not found:
        return [NO_LIBRARIES.found(path=text or "not set")]
    node = environment.get("SLURMD_NODENAME", "a node")
    return [Finding("", OK, printable(f"A job ran on {node}, and its LD_LIBRARY_PATH leads to {found}."))]
