"""The dashboard of a job: where it runs, and whether it uses what it has."""

from __future__ import annotations

from .model import BLUE, GREEN, ORANGE, RED, STAT, TABLE, TIMESERIES, Column, Dashboard, Panel, Query, Row
from .places import (
    CLUSTER_VARIABLE,
    FULL,
    GPU_OF_ROW,
    GPU_OF_SERIES,
    HOT,
    IN_CLUSTER,
    JOB_UID,
    JOB_VARIABLE,
    NODE_OF_ROW,
    NODE_OF_SERIES,
    ONE,
    USERS_VARIABLE,
)

_JOB = f'{IN_CLUSTER}, jobid="$job"'
_WHAT_IT_IS = ("jobid", "job_name", "user", "account", "partition", "container", "image", "nccl")
_MY_NODES = f"max by (node) (slurm_fsx:job_info{{{_JOB}}})"


def _by_gpu(what: str) -> str:
    return f"max by (node, gpu) (slurm_fsx:job_{what}{{{_JOB}}})"


def _by_node(what: str) -> str:
    return f"max by (node) (slurm_fsx:job_{what}{{{_JOB}}})"


def _of_my_nodes(counter: str) -> str:
    """Take the rate of a counter of interfaces, of this job's nodes."""
    rate = f'rate({counter}{{{IN_CLUSTER}, device!~"lo|veth.*|docker.*|ifb.*"}}[$__rate_interval])'
    return f"sum by (node) (max by (node, device) ({rate})) * on (node) group_left () {_MY_NODES}"


_NOW = Row(
    "Now",
    (
        Panel(
            "Job",
            "Whose it is, the container that it named, the image that this became, and its NCCL.",
            TABLE,
            (
                Query(f"max by (jobid, job_name, user, account, partition, container) (slurm_fsx:job_info{{{_JOB}}})"),
                Query(f"max by (jobid, image, nccl) (slurm_fsx_job_info{{{_JOB}}})"),
            ),
            width=24,
            height=4,
            columns=tuple((name, Column()) for name in _WHAT_IT_IS),
        ),
        Panel(
            "Nodes",
            "How many nodes it has.",
            STAT,
            (Query(f"count({_MY_NODES})", "nodes"),),
            width=5,
            height=4,
            thresholds=((None, BLUE),),
        ),
        Panel(
            "GPUs",
            "How many GPUs it has; of one that two jobs share, each has a half.",
            STAT,
            (Query(f"max(slurm_fsx:job_gpus{{{_JOB}}})", "GPUs"),),
            width=5,
            height=4,
            thresholds=((None, BLUE),),
        ),
        Panel(
            "Running for",
            "Since its first node began.",
            STAT,
            (Query(f"time() - min(slurm_fsx_job_start_time_seconds{{{_JOB}}})", "time"),),
            "s",
            width=4,
            height=4,
            thresholds=((None, BLUE),),
        ),
        Panel(
            "GPUs busy",
            "Mean utilisation of its GPUs.",
            STAT,
            (Query(f"avg({_by_gpu('gpu_utilization')})", "busy"),),
            ONE,
            width=5,
            height=4,
            thresholds=((None, RED), (0.3, ORANGE), (0.6, GREEN)),
            maximum=1,
        ),
        Panel(
            "Idle GPUs",
            "GPUs of it that did nothing for ten minutes: a rank that hangs, or more than it needs.",
            STAT,
            (Query(f"sum(max_over_time(slurm_fsx:job_gpu_utilization{{{_JOB}}}[10m]) < bool 0.01)", "idle"),),
            width=5,
            height=4,
            thresholds=((None, GREEN), (1, ORANGE)),
        ),
    ),
)
_GPUS = Row(
    "GPUs",
    (
        Panel(
            "Utilisation",
            "Of each of its GPUs. One that lies below the others holds all of them up.",
            TIMESERIES,
            (Query(_by_gpu("gpu_utilization"), "{{node}} GPU {{gpu}}"),),
            ONE,
            width=12,
            maximum=1,
            link=GPU_OF_SERIES,
        ),
        Panel(
            "Memory",
            "Memory in use of each of its GPUs.",
            TIMESERIES,
            (Query(_by_gpu("gpu_memory_used_bytes"), "{{node}} GPU {{gpu}}"),),
            "bytes",
            width=12,
            link=GPU_OF_SERIES,
        ),
        Panel(
            "Power",
            "What its GPUs draw together.",
            TIMESERIES,
            (Query(f"sum({_by_gpu('gpu_power_watts')})", "all GPUs of the job"),),
            "watt",
        ),
        Panel(
            "Temperature",
            "Its hottest GPU on each node; from 85 °C on it slows down.",
            TIMESERIES,
            (Query(f"max by (node) ({_by_gpu('gpu_temperature_celsius')})", "{{node}}"),),
            "celsius",
            thresholds=HOT,
            link=NODE_OF_SERIES,
        ),
        Panel(
            "GPUs",
            "A click on a node or an index opens it.",
            TABLE,
            (
                Query(_by_gpu("gpu_utilization"), "busy"),
                Query(_by_gpu("gpu_memory_used_bytes"), "memory"),
                Query(_by_gpu("gpu_power_watts"), "power"),
            ),
            columns=(
                ("node", Column(link=NODE_OF_ROW)),
                ("gpu", Column(link=GPU_OF_ROW)),
                ("busy", Column(ONE)),
                ("memory", Column("bytes")),
                ("power", Column("watt")),
            ),
        ),
    ),
)
_NODES = Row(
    "Nodes",
    (
        Panel(
            "Processors",
            "Of each of its nodes; where jobs share a node, by all of them.",
            TIMESERIES,
            (Query(_by_node("cpu_utilization"), "{{node}}"),),
            ONE,
            maximum=1,
            link=NODE_OF_SERIES,
        ),
        Panel(
            "Memory",
            "Of each of its nodes; where jobs share a node, to all of them.",
            TIMESERIES,
            (Query(_by_node("memory_utilization"), "{{node}}"),),
            ONE,
            thresholds=FULL,
            maximum=1,
            link=NODE_OF_SERIES,
        ),
        Panel(
            "Network",
            "Bytes a second of each of its nodes, in and out. Traffic of EFA is not in here.",
            TIMESERIES,
            (
                Query(_of_my_nodes("node_network_receive_bytes_total"), "{{node}} in"),
                Query(_of_my_nodes("node_network_transmit_bytes_total"), "{{node}} out"),
            ),
            "Bps",
            link=NODE_OF_SERIES,
        ),
    ),
)

JOB = Dashboard(
    JOB_UID,
    "slurm-fsx: job",
    "Where a job runs, and whether it uses what it has.",
    (CLUSTER_VARIABLE, USERS_VARIABLE, JOB_VARIABLE),
    (_NOW, _GPUS, _NODES),
)
