"""The dashboard of a whole cluster: how full it is, who uses it, which jobs run, and what is broken."""

from __future__ import annotations

from .model import BLUE, GREEN, ORANGE, RED, STAT, TABLE, TIMESERIES, Column, Dashboard, Panel, Query, Row
from .places import (
    ANY_IS_BAD,
    CLUSTER_UID,
    CLUSTER_VARIABLE,
    FSX_VARIABLE,
    FULL,
    IN_CLUSTER,
    JOB_OF_ROW,
    NODE_OF_ROW,
    ONE,
    OR_NONE,
    USERS_VARIABLE,
    once,
)

_OF_USERS = f'{IN_CLUSTER}, user=~"$user"'
_MOUNT = f'{IN_CLUSTER}, mountpoint="$fsx"'
_FREE = f"min(node_filesystem_avail_bytes{{{_MOUNT}}})"
_SIZE = f"max(node_filesystem_size_bytes{{{_MOUNT}}})"
_JOB = "jobid, user, account"
# Alerts about Prometheus itself have no cluster.
_FIRING = (
    "max by (alertname, severity, node, gpu, jobid)"
    ' (ALERTS{alertstate="firing", alertname=~"SlurmFsx.*", cluster=~"$cluster|"})'
)
_BY_STATE = once("slurm_fsx_nodes", "state", IN_CLUSTER)


def _quantile_s(act: str, quantile: float) -> str:
    """Take a quantile over all nodes; prologs are rare, so over half an hour."""
    buckets = f"sum by (le) (rate(slurm_fsx_{act}_duration_seconds_bucket{{{IN_CLUSTER}}}[30m]))"
    return f"histogram_quantile({quantile}, {buckets})"


_NOW = Row(
    "Now",
    (
        Panel(
            "Jobs",
            "Jobs that have nodes now, of the chosen users.",
            STAT,
            (Query(f"count({once('slurm_fsx_cluster_job_info', 'jobid', _OF_USERS)}){OR_NONE}", "jobs"),),
            width=4,
            height=4,
            thresholds=((None, BLUE),),
        ),
        Panel(
            "GPUs in jobs",
            "GPUs that jobs have, and all that dcgm-exporter tells of.",
            STAT,
            (
                Query(f"sum(slurm_fsx:job_gpus{{{IN_CLUSTER}}}){OR_NONE}", "in jobs"),
                Query(f"count({once('DCGM_FI_DEV_GPU_UTIL', 'node, gpu', IN_CLUSTER)})", "all"),
            ),
            width=4,
            height=4,
            thresholds=((None, BLUE),),
        ),
        Panel(
            "GPUs busy in jobs",
            "Mean utilisation of all GPUs that jobs have. Low is dear.",
            STAT,
            (Query(f"avg(slurm_fsx:job_gpu_utilization{{{IN_CLUSTER}}})", "busy"),),
            ONE,
            width=4,
            height=4,
            thresholds=((None, RED), (0.3, ORANGE), (0.6, GREEN)),
            maximum=1,
        ),
        Panel(
            "Shared file system",
            "How full it is. Jobs that write fail when it is full.",
            STAT,
            (Query(f"1 - {_FREE} / {_SIZE}", "used"),),
            ONE,
            width=4,
            height=4,
            thresholds=FULL,
            maximum=1,
        ),
        Panel(
            "Exporters down",
            "Targets that do not answer Prometheus, of all.",
            STAT,
            (
                Query(f"sum(1 - up{{{IN_CLUSTER}}})", "down"),
                Query(f"count(up{{{IN_CLUSTER}}})", "all"),
            ),
            width=4,
            height=4,
        ),
        Panel(
            "Images that failed",
            "Imports of container images that ended with an error: slurm-fsx containers status says why.",
            STAT,
            (Query(once("slurm_fsx_image_imports", "result", f'{IN_CLUSTER}, result="failed"'), "failed"),),
            width=4,
            height=4,
            thresholds=ANY_IS_BAD,
        ),
    ),
)
_ALERTS = Row(
    "Alerts",
    (
        Panel(
            "Firing alerts",
            "Each alert's rule says what it means and what to do: see Prometheus' page of alerts.",
            TABLE,
            (Query(_FIRING),),
            width=24,
            height=6,
            columns=(
                ("alertname", Column()),
                ("severity", Column()),
                ("node", Column(link=NODE_OF_ROW)),
                ("gpu", Column()),
                ("jobid", Column(link=JOB_OF_ROW)),
            ),
        ),
    ),
)
_USE = Row(
    "Use",
    (
        Panel(
            "GPUs by user",
            "How many GPUs each user's jobs have; of one that two jobs share, each has a half.",
            TIMESERIES,
            (Query(f"sum by (user) (slurm_fsx:job_gpus{{{_OF_USERS}}})", "{{user}}"),),
            stacked=True,
        ),
        Panel(
            "GPU utilisation by user",
            "Mean over the GPUs of each user's jobs.",
            TIMESERIES,
            (Query(f"avg by (user) (slurm_fsx:job_gpu_utilization{{{_OF_USERS}}})", "{{user}}"),),
            ONE,
            maximum=1,
        ),
        Panel(
            "Nodes by state",
            "Slurm's states, as the last sync saw them.",
            TIMESERIES,
            (Query(_BY_STATE, "{{state}}"),),
            stacked=True,
        ),
        Panel(
            "Processors of nodes",
            "Utilisation of the nodes' processors.",
            TIMESERIES,
            tuple(
                Query(f"{what}(max by (node) (slurm_fsx:node_cpu_utilization{{{IN_CLUSTER}}}))", name)
                for what, name in (("avg", "mean"), ("max", "busiest node"))
            ),
            ONE,
            maximum=1,
        ),
        Panel(
            "Power of GPUs",
            "What all GPUs draw together, in jobs or not.",
            TIMESERIES,
            (Query(f"sum({once('DCGM_FI_DEV_POWER_USAGE', 'node, gpu', IN_CLUSTER)})", "all GPUs"),),
            "watt",
        ),
        Panel(
            "Shared file system",
            "Space on the file system that the variable above names, as nodes see it.",
            TIMESERIES,
            (Query(f"{_SIZE} - {_FREE}", "used"), Query(_SIZE, "size")),
            "bytes",
        ),
    ),
)
_TABLES = Row(
    "Jobs and nodes",
    (
        Panel(
            "Jobs",
            "Jobs that have nodes. A click on an id opens the job.",
            TABLE,
            (
                Query(f"max by ({_JOB}, partition, job_name) (slurm_fsx:job_info{{{_OF_USERS}}})"),
                Query(f"count by ({_JOB}) (max by ({_JOB}, node) (slurm_fsx:job_info{{{_OF_USERS}}}))", "nodes"),
                Query(f"max by ({_JOB}) (slurm_fsx:job_gpus{{{_OF_USERS}}})", "GPUs"),
                Query(f"avg by ({_JOB}) (slurm_fsx:job_gpu_utilization{{{_OF_USERS}}})", "GPU busy"),
                Query(f"avg by ({_JOB}) (slurm_fsx:job_cpu_utilization{{{_OF_USERS}}})", "CPU busy"),
                Query(f"max by ({_JOB}) (slurm_fsx:job_gpu_memory_used_bytes{{{_OF_USERS}}})", "GPU memory, most"),
            ),
            width=24,
            height=10,
            columns=(
                ("jobid", Column(link=JOB_OF_ROW)),
                ("job_name", Column()),
                ("user", Column()),
                ("account", Column()),
                ("partition", Column()),
                ("nodes", Column()),
                ("GPUs", Column()),
                ("GPU busy", Column(ONE)),
                ("CPU busy", Column(ONE)),
                ("GPU memory, most", Column("bytes")),
            ),
        ),
        Panel(
            "Nodes",
            "Nodes that Prometheus scrapes. A click on a name opens the node.",
            TABLE,
            (
                Query(once("up", "node, partition, instance_type", f'{IN_CLUSTER}, exporter="node_exporter"'), "up"),
                Query(once("slurm_fsx:node_jobs", "node", IN_CLUSTER), "jobs"),
                Query(once("slurm_fsx:node_cpu_utilization", "node", IN_CLUSTER), "CPU busy"),
                Query(once("slurm_fsx:node_memory_utilization", "node", IN_CLUSTER), "memory used"),
                Query(f"avg by (node) ({once('DCGM_FI_DEV_GPU_UTIL', 'node, gpu', IN_CLUSTER)}) / 100", "GPU busy"),
            ),
            width=24,
            height=10,
            columns=(
                ("node", Column(link=NODE_OF_ROW)),
                ("partition", Column()),
                ("instance_type", Column()),
                ("up", Column("bool_yes_no")),
                ("jobs", Column()),
                ("CPU busy", Column(ONE)),
                ("memory used", Column(ONE)),
                ("GPU busy", Column(ONE)),
            ),
        ),
    ),
)
_HEALTH = Row(
    "slurm-fsx itself",
    (
        Panel(
            "Prolog and epilog",
            "How long nodes take for ours, 95 of 100 of them, over half an hour. Jobs wait for the prolog.",
            TIMESERIES,
            tuple(Query(_quantile_s(act, 0.95), act) for act in ("prolog", "epilog")),
            "s",
        ),
        Panel(
            "Failed open",
            "How often a prolog or epilog gave up, and let the job go on without its help. Nodes' logs say why.",
            TIMESERIES,
            (
                Query(
                    f"sum by (node, act) (increase(slurm_fsx_fail_open_total{{{IN_CLUSTER}}}[1h]))",
                    "{{act}} on {{node}}",
                ),
            ),
        ),
        Panel(
            "Unknown container names",
            "Steps that named a container for which no image was found, an hour.",
            TIMESERIES,
            (Query(f"sum(increase(slurm_fsx_resolution_misses_total{{{IN_CLUSTER}}}[1h]))", "misses"),),
        ),
        Panel(
            "Image imports",
            "Images by what became of their last import.",
            TIMESERIES,
            (Query(once("slurm_fsx_image_imports", "result", IN_CLUSTER), "{{result}}"),),
        ),
        Panel(
            "Nodes known",
            "Nodes in Slurm, and those with a file of targets.",
            TIMESERIES,
            (
                Query(f"sum({_BY_STATE})", "in Slurm"),
                Query(f"max(slurm_fsx_registered_nodes{{{IN_CLUSTER}}})", "registered"),
            ),
        ),
        Panel(
            "Last sync",
            "How long ago the head node last compared Slurm's nodes and jobs with what Prometheus is told.",
            TIMESERIES,
            (Query(f"time() - max(slurm_fsx_sync_timestamp_seconds{{{IN_CLUSTER}}})", "age"),),
            "s",
            thresholds=((None, GREEN), (900, RED)),
        ),
    ),
)

CLUSTER = Dashboard(
    CLUSTER_UID,
    "slurm-fsx: cluster",
    "How full the cluster is, who uses it, which jobs run, and what is broken.",
    (CLUSTER_VARIABLE, USERS_VARIABLE, FSX_VARIABLE),
    (_NOW, _ALERTS, _USE, _TABLES, _HEALTH),
)
