"""Recording rules: what nodes and GPUs do, by job.

Prolog tells node by node which jobs are there, as series whose value is 1 (``slurm_fsx_job_info``), so that the series
of nodes and GPUs stay the same whatever runs on them. These rules join the two. They hold for

* several jobs on a node and on a GPU: each has series of its own, which show all of that node or GPU;
* Slurm, whose prologs do not know a job's name: the head node's series (``slurm_fsx_cluster_job_info``) do;
* a machine that is scraped twice, two head nodes, and dcgm-exporter's label ``hpc_job``: what is said twice counts
  once, so no join has two partners and fails as a whole (Prometheus: "many-to-many matching not allowed");
* several clusters in one Prometheus: jobs' ids are unique in a cluster only.

Utilisations are fractions, 0 to 1. Source of GPU metrics: dcgm-exporter's default-counters.csv.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

JOB = "slurm-fsx"
"""Prometheus' label ``job`` of all that the nodes' files of targets name."""

_NODE_LABELS = "cluster, node, partition, instance_type"
_JOB_LABELS = "cluster, node, jobid, user, partition, gpus, container"
_MIB = 1 << 20


@dataclass(frozen=True)
class RecordingRule:
    """A series that Prometheus computes at each evaluation."""

    record: str
    expression: str
    help: str
    """What it says, with its unit, and its labels where they are not plain."""

    def as_yaml(self) -> dict[str, Any]:
        """Give it as Prometheus reads it."""
        return {"record": self.record, "expr": self.expression}


def recording_rules(rate_window_s: int) -> list[RecordingRule]:
    """Give the rules, in the order in which they build on each other.

    Args:
        rate_window_s: Over how many seconds a counter's rate is taken: four scrapes or more.
    """
    return [
        RecordingRule(
            "slurm_fsx:job_info",
            _job_info(),
            "1 for each job on each node: user, account, partition, job_name, gpus, container. "
            "What a prolog is not told, such as job_name, is the head node's.",
        ),
        RecordingRule(
            "slurm_fsx:job_gpu_info",
            _job_gpu_info(),
            "1 for each GPU of each job: node, gpu, UUID, user, account.",
        ),
        RecordingRule(
            "slurm_fsx:registered_nodes",
            "max by (cluster) (slurm_fsx_registered_nodes)",
            "How many nodes have a file of targets, as the head node's last sync saw it.",
        ),
        RecordingRule(
            "slurm_fsx:scraped_nodes",
            f'count by (cluster) (group by (cluster, node) (up{{job="{JOB}", exporter="node_exporter"}}))',
            "How many nodes Prometheus asks, whether they answer or not.",
        ),
        RecordingRule(
            "slurm_fsx:node_jobs",
            "count by (cluster, node) (slurm_fsx:job_info)",
            "How many jobs a node has; nodes without one have no series.",
        ),
        RecordingRule(
            "slurm_fsx:gpu_jobs",
            "count by (cluster, node, gpu, UUID) (slurm_fsx:job_gpu_info)",
            "How many jobs share a GPU; idle ones have no series.",
        ),
        RecordingRule(
            "slurm_fsx:job_gpus",
            "sum by (cluster, jobid, user, account) (slurm_fsx:job_gpu_info"
            " / on (cluster, node, gpu, UUID) group_left () slurm_fsx:gpu_jobs)",
            "How many GPUs a job has on all its nodes; of one that two share, each has a half.",
        ),
        RecordingRule(
            "slurm_fsx:node_cpu_utilization",
            node_cpu_utilization(_NODE_LABELS, rate_window_s),
            "Which part of a node's processors is busy; waiting for a disk is not.",
        ),
        RecordingRule(
            "slurm_fsx:node_memory_utilization",
            f"1 - max by ({_NODE_LABELS}) (node_memory_MemAvailable_bytes)"
            f" / max by ({_NODE_LABELS}) (node_memory_MemTotal_bytes)",
            "Which part of a node's memory is not available.",
        ),
        _by_node("cpu", "Which part of the processors of a job's node is busy; where jobs share it, by all of them."),
        _by_node("memory", "Which part of the memory of a job's node is not available; where jobs share it, to all."),
        _by_gpu(
            "gpu_utilization",
            "DCGM_FI_DEV_GPU_UTIL",
            " / 100",
            "Which part of the time a job's GPU is busy.",
            # A MIG instance has no utilisation of the older kind.
            of_instance='DCGM_FI_PROF_GR_ENGINE_ACTIVE{GPU_I_ID!=""} * 100',
        ),
        _by_gpu(
            "gpu_memory_used_bytes", "DCGM_FI_DEV_FB_USED", f" * {_MIB}", "Memory in use of a job's GPU, in bytes."
        ),
        _by_gpu("gpu_power_watts", "DCGM_FI_DEV_POWER_USAGE", "", "What a job's GPU draws, in W."),
        _by_gpu("gpu_temperature_celsius", "DCGM_FI_DEV_GPU_TEMP", "", "How hot a job's GPU is, in °C."),
    ]


def _job_info() -> str:
    """Take node's words where they are whole, else the head node's for account and name, else what there is."""
    of_head = "topk by (cluster, jobid) (1, max by (cluster, jobid, account, job_name) (slurm_fsx_cluster_job_info))"
    whole = f'max by ({_JOB_LABELS}, account, job_name) (slurm_fsx_job_info{{account!="", job_name!=""}})'
    lacking = 'slurm_fsx_job_info{account=""} or slurm_fsx_job_info{job_name=""}'
    filled = f"max by ({_JOB_LABELS}) ({lacking}) * on (cluster, jobid) group_left (account, job_name) {of_head}"
    bare = f"max by ({_JOB_LABELS}, account, job_name) (slurm_fsx_job_info)"
    same_job = "or on (cluster, node, jobid)"
    # One series for a job on a node, whatever two scrapes of it say: others are joined with it by these labels.
    return f"topk by (cluster, node, jobid) (1, {whole} {same_job} {filled} {same_job} {bare})"


def _job_gpu_info() -> str:
    account = "max by (cluster, node, jobid, account) (slurm_fsx:job_info)"
    return (
        "max by (cluster, node, jobid, user, gpu, UUID) (slurm_fsx_job_gpu_info)"
        f" * on (cluster, node, jobid) group_left (account) {account}"
        " or on (cluster, node, jobid)"
        " max by (cluster, node, jobid, user, account, gpu, UUID) (slurm_fsx_job_gpu_info)"
    )


def node_cpu_utilization(by: str, window_s: float, which: str = "") -> str:
    """Give the expression of which part of a node's processors is busy; waiting for a disk is not.

    Of the last two scrapes: ``rate`` counts the time before a node's first scrape as well, so a new node would seem
    busy until it has been there for the whole window.

    Args:
        by: The labels it is computed by, with commas between.
        window_s: How many seconds the two scrapes may lie back.
        which: Conditions on the nodes, with a comma at the end; none for all.
    """

    def rate(modes: str) -> str:
        # A machine that is scraped twice has each processor twice.
        seconds = f'irate(node_cpu_seconds_total{{{which}mode=~"{modes}"}}[{window_s:.0f}s])'
        return f"max by ({by}, cpu, mode) ({seconds})"

    return f"clamp_min(1 - sum by ({by}) ({rate('idle|iowait')}) / count by ({by}) ({rate('idle')}), 0)"


def _by_node(what: str, help: str) -> RecordingRule:
    jobs = "max by (cluster, node, jobid, user, account) (slurm_fsx:job_info)"
    node = f"max by (cluster, node) (slurm_fsx:node_{what}_utilization)"
    return RecordingRule(f"slurm_fsx:job_{what}_utilization", f"{jobs} * on (cluster, node) group_left () {node}", help)


def _by_gpu(what: str, metric: str, scale: str, help: str, of_instance: str = "") -> RecordingRule:
    """Join by UUID, or by the index where prolog knows no UUID: Slurm's order may be another than the driver's.

    Args:
        what: The end of the series' name.
        metric: dcgm-exporter's.
        scale: What makes its unit ours; may be empty.
        help: What the series says.
        of_instance: The metric of a MIG instance, in the same unit, where it is another. Prolog's label ``gpu`` is
            ``2.0`` for instance 0 of GPU 2; dcgm-exporter's are ``gpu`` and ``GPU_I_ID``.
    """
    instance = of_instance or f'{metric}{{GPU_I_ID!=""}}'
    joined = [
        f'slurm_fsx:job_gpu_info{{UUID!="", gpu!~".*[.].*"}} * on (cluster, node, UUID) group_left ()'
        f' max by (cluster, node, UUID) ({metric}{{GPU_I_ID=""}})',
        f'slurm_fsx:job_gpu_info{{UUID="", gpu!~".*[.].*"}} * on (cluster, node, gpu) group_left ()'
        f' max by (cluster, node, gpu) ({metric}{{GPU_I_ID=""}})',
        'slurm_fsx:job_gpu_info{gpu=~".*[.].*"} * on (cluster, node, gpu) group_left ()'
        f' max by (cluster, node, gpu) (label_join({instance}, "gpu", ".", "gpu", "GPU_I_ID"))',
    ]
    every = " or ".join(joined)
    return RecordingRule(f"slurm_fsx:job_{what}", f"({every}){scale}" if scale else every, help)
