"""Asks Slurm by its commands' text, where nothing better works: a Slurm that was built without JSON, say."""

from __future__ import annotations

import re
import secrets

from ..errors import SlurmUnavailable
from ..slurm_state import SlurmJob, SlurmNode
from .commands import CommandClient, CommandFailed
from .states import ENDED, count_gpus, node_state, with_partition

_NODE = re.compile(r"(?:^| )(NodeName|ActiveFeatures|Gres|NodeAddr|State|Partitions)=(\S*)")
_STATE_MARKS = re.compile(r"[^A-Z_]*$")
_NOTHING = ("(null)", "N/A", "n/a", "None", "none")

_JOB_FIELDS = ("%A", "%U", "%T", "%u", "%a", "%P", "%N", "%D", "%S", "%e", "%j")
_GPU_COLUMNS = {
    "JobID": 12,
    "NumNodes": 12,
    "NumTasks": 12,
    "tres-alloc": 160,
    "tres-per-job": 64,
    "tres-per-node": 64,
    "tres-per-task": 64,
}
"""Columns of squeue, which pads and cuts them, with their widths; nothing that a user named is in them."""


class TextClient(CommandClient):
    """Asks by the text of ``scontrol show nodes`` and ``squeue --format``.

    Of a node, free text (comment, reason) stands behind what is read here. ``scontrol show jobs`` has it in front: it
    prints a job's name as it is, newlines included (observed on 22.05, 24.11 and 26.05), so that a user can write other
    people's jobs into the answer. squeue is given a format instead, with a word that nobody could know before each job
    and between its fields: an account is any text, too, where there is no accounting.
    """

    name = "text"

    def nodes(self) -> list[SlurmNode]:
        text = self._ask("scontrol", "--all", "--oneliner", "show", "nodes")
        return with_partition(read_nodes(text), self.partitions())

    def jobs(self) -> list[SlurmJob]:
        return [job for job in self._jobs("--all") if job.state not in ENDED]

    def job(self, job_id: int) -> SlurmJob | None:
        try:
            found = self._jobs("--all", "--states=all", f"--jobs={job_id}")
        except CommandFailed as error:
            if error.is_about_unknown_job:
                return None
            raise
        return next((job for job in found if job.id == job_id), None)

    def _jobs(self, *which: str) -> list[SlurmJob]:
        word = secrets.token_hex(8)
        form = f"{word}>{f'{word}|'.join(_JOB_FIELDS)}"
        jobs = read_jobs(self._ask("squeue", "--noheader", *which, f"--format={form}"), word)
        if not any(job.nodes for job in jobs):
            return jobs
        columns = ",".join(f"{name}:{width}" for name, width in _GPU_COLUMNS.items())
        gpus = read_gpus(self._ask("squeue", "--noheader", *which, f"--Format={columns}"))
        return [job._replace(gpus=gpus.get(job.id, 0)) if job.nodes else job for job in jobs]


def read_nodes(text: str) -> list[SlurmNode]:
    """Read what ``scontrol --oneliner show nodes`` prints.

    Raises:
        SlurmUnavailable: it is something else.
    """
    nodes: list[SlurmNode] = []
    for line in text.splitlines():
        if not line.startswith("NodeName="):
            # A comment may go on in a line of its own.
            if nodes or not line.strip() or line == "No nodes in the system":
                continue
            raise SlurmUnavailable(f"scontrol answered {line[:80]!r}", hint="run: scontrol show nodes")
        # The first of each key counts: comment and reason, which may hold anything, come last.
        values = dict(reversed(_NODE.findall(line)))
        try:
            words = values["State"].split("+")
        except KeyError as error:
            raise SlurmUnavailable(f"scontrol answered {line[:80]!r}", hint="run: scontrol show nodes") from error
        state, marks = node_state([_STATE_MARKS.sub("", word) for word in words])
        if "*" in values["State"] and "*" not in marks:
            marks += "*"
        nodes.append(
            SlurmNode(
                name=values["NodeName"],
                state=state,
                marks=marks,
                gpus=count_gpus(_value(values.get("Gres"))),
                partitions=tuple(sorted(filter(None, _value(values.get("Partitions")).split(",")))),
                features=tuple(filter(None, _value(values.get("ActiveFeatures")).split(","))),
                address=_value(values.get("NodeAddr")),
            )
        )
    return nodes


def read_jobs(text: str, word: str) -> list[SlurmJob]:
    """Read what squeue prints with a format that has a word, which nobody could know, before each job and its fields.

    Raises:
        SlurmUnavailable: it is something else.
    """
    before, *records = f"\n{text}".split(f"\n{word}>")
    if before.strip():
        raise SlurmUnavailable(f"squeue answered {before.strip()[:80]!r}", hint="run: squeue")
    jobs = []
    for record in records:
        fields = record.split(f"{word}|")
        try:
            number, uid, state, user, account, partition, nodes, count, start, end, name = fields
            jobs.append(
                SlurmJob(
                    id=int(number),
                    user=_value(user),
                    uid=int(uid),
                    account=_value(account),
                    partition=_value(partition),
                    name=name.rstrip("\n") if record is records[-1] else name,
                    state=state,
                    nodes=_value(nodes),
                    node_count=int(count),
                    start_time_s=_seconds(start),
                    end_time_s=_seconds(end),
                )
            )
        except ValueError as error:
            raise SlurmUnavailable(f"squeue answered {record[:80]!r}", hint="run: squeue") from error
    return jobs


def read_gpus(text: str) -> dict[int, int]:
    """Read how many GPUs jobs have, of squeue's columns: as allocated, which not every site counts, or as asked for.

    Raises:
        SlurmUnavailable: it is something else.
    """
    gpus = {}
    for line in text.splitlines():
        values, start = [], 0
        for width in _GPU_COLUMNS.values():
            values.append(line[start : start + width].strip())
            start += width
        number, nodes, tasks, allocated, per_job, per_node, per_task = values
        try:
            asked = count_gpus(per_job) or count_gpus(per_node) * int(nodes) or count_gpus(per_task) * int(tasks)
            gpus[int(number)] = count_gpus(allocated) or asked
        except ValueError as error:
            raise SlurmUnavailable(f"squeue answered {line[:80]!r}", hint="run: squeue") from error
    return gpus


def _value(text: str | None) -> str:
    return "" if text is None or text in _NOTHING else text


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() else 0.0
