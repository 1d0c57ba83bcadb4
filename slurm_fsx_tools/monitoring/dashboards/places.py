"""What the dashboards have in common: their names, their variables, and links between them."""

from __future__ import annotations

from .model import GREEN, ORANGE, RED, Variable, link, of_row, of_series

CLUSTER_UID, NODE_UID, JOB_UID, GPU_UID = (f"slurm-fsx-{name}" for name in ("cluster", "node", "job", "gpu"))

IN_CLUSTER = 'cluster="$cluster"'
ON_NODES = f'{IN_CLUSTER}, node=~"$node"'

CLUSTER_VARIABLE = Variable("cluster", "Cluster", "label_values(up, cluster)")
NODE_VARIABLE = Variable("node", "Node", f"label_values(up{{{IN_CLUSTER}}}, node)")
NODES_VARIABLE = Variable("node", "Nodes", f"label_values(up{{{IN_CLUSTER}}}, node)", several=True)
USERS_VARIABLE = Variable("user", "Users", f"label_values(slurm_fsx:job_info{{{IN_CLUSTER}}}, user)", several=True)
JOB_VARIABLE = Variable("job", "Job", f'label_values(slurm_fsx:job_info{{{IN_CLUSTER}, user=~"$user"}}, jobid)')
GPUS_VARIABLE = Variable("gpu", "GPUs", f"label_values(DCGM_FI_DEV_GPU_UTIL{{{ON_NODES}}}, gpu)", several=True)
FSX_VARIABLE = Variable("fsx", "Shared file system", "", "/fsx")

JOB_OF_ROW = link(JOB_UID, user="$__all", job=of_row("jobid"))
NODE_OF_ROW = link(NODE_UID, node=of_row("node"))
GPU_OF_ROW = link(GPU_UID, node=of_row("node"), gpu=of_row("gpu"))
NODE_OF_SERIES = link(NODE_UID, node=of_series("node"))
GPU_OF_SERIES = link(GPU_UID, node=of_series("node"), gpu=of_series("gpu"))

ONE = "percentunit"
"""Grafana's unit of a fraction, shown as percents."""

OR_NONE = " or vector(0)"
"""Behind a count of what may not be there: 0, not \"no data\"."""

FULL = ((None, GREEN), (0.85, ORANGE), (0.95, RED))
"""Colours of what runs full; the alerts on the shared file system have the same bounds."""

ANY_IS_BAD = ((None, GREEN), (1, RED))
HOT = ((None, GREEN), (75, ORANGE), (85, RED))
"""°C; from the last on there is an alert."""


def once(metric: str, labels: str, selector: str) -> str:
    """Take a metric's series once for each value of labels, however often its exporter is scraped."""
    return f"max by ({labels}) ({metric}{{{selector}}})"


def rate_once(counter: str, labels: str, selector: str) -> str:
    """Take a counter's rate a second, once for each value of labels."""
    return f"max by ({labels}) (rate({counter}{{{selector}}}[$__rate_interval]))"
