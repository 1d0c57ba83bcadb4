"""The dashboard of a node: what runs there, and what its processors, memory, disks, network and GPUs do."""

from __future__ import annotations

from .model import BLUE, GREEN, RED, STAT, TABLE, TIMESERIES, Column, Dashboard, Panel, Query, Row
from .places import (
    CLUSTER_VARIABLE,
    FULL,
    GPU_OF_ROW,
    GPU_OF_SERIES,
    HOT,
    IN_CLUSTER,
    JOB_OF_ROW,
    NODE_UID,
    NODE_VARIABLE,
    ONE,
    OR_NONE,
    once,
    rate_once,
)

_HERE = f'{IN_CLUSTER}, node="$node"'
_DISK = f'{_HERE}, fstype!~"tmpfs|ramfs|overlay|squashfs"'
_NETWORK = f'{_HERE}, device!~"lo|veth.*|docker.*|ifb.*"'
_DEVICE = f'{_HERE}, device!~"loop.*|ram.*|dm-.*"'
_JOB = "jobid, user, account"

_NOW = Row(
    "Now",
    (
        Panel(
            "Up",
            "Exporters that answer Prometheus.",
            STAT,
            (Query(once("up", "exporter", _HERE), "{{exporter}}"),),
            "bool_yes_no",
            width=6,
            height=4,
            thresholds=((None, RED), (1, GREEN)),
        ),
        Panel(
            "Jobs",
            "Jobs on this node.",
            STAT,
            (Query(f"max(slurm_fsx:node_jobs{{{_HERE}}}){OR_NONE}", "jobs"),),
            width=3,
            height=4,
            thresholds=((None, BLUE),),
        ),
        Panel(
            "Processors",
            "Which part of them is busy.",
            STAT,
            (Query(f"max(slurm_fsx:node_cpu_utilization{{{_HERE}}})", "busy"),),
            ONE,
            width=5,
            height=4,
            thresholds=((None, BLUE),),
            maximum=1,
        ),
        Panel(
            "Memory",
            "Which part of it is not available. At 100 % the kernel ends a process of the job.",
            STAT,
            (Query(f"max(slurm_fsx:node_memory_utilization{{{_HERE}}})", "used"),),
            ONE,
            width=5,
            height=4,
            thresholds=FULL,
            maximum=1,
        ),
        Panel(
            "Up since",
            "When the node was started.",
            STAT,
            (Query(f"1000 * max(node_boot_time_seconds{{{_HERE}}})", "start"),),
            "dateTimeFromNow",
            width=5,
            height=4,
            thresholds=((None, BLUE),),
        ),
    ),
)
_TABLES = Row(
    "Jobs and GPUs",
    (
        Panel(
            "Jobs",
            "Jobs on this node. A click on an id opens the job.",
            TABLE,
            (
                Query(f"max by ({_JOB}, partition, job_name, gpus, container) (slurm_fsx:job_info{{{_HERE}}})"),
                Query(f"1000 * max by (jobid) (slurm_fsx_job_start_time_seconds{{{_HERE}}})", "started"),
            ),
            width=14,
            columns=(
                ("jobid", Column(link=JOB_OF_ROW)),
                ("job_name", Column()),
                ("user", Column()),
                ("account", Column()),
                ("partition", Column()),
                ("gpus", Column()),
                ("container", Column()),
                ("started", Column("dateTimeFromNow")),
            ),
        ),
        Panel(
            "GPUs",
            "GPUs of this node, whether or not a job has them. A click on an index opens the GPU.",
            TABLE,
            (
                Query(f"{once('DCGM_FI_DEV_GPU_UTIL', 'node, gpu, modelName', _HERE)} / 100", "busy"),
                Query(f"{once('DCGM_FI_DEV_FB_USED', 'node, gpu', _HERE)} * 1048576", "memory"),
                Query(once("DCGM_FI_DEV_GPU_TEMP", "node, gpu", _HERE), "temperature"),
            ),
            width=10,
            columns=(
                ("gpu", Column(link=GPU_OF_ROW)),
                ("node", Column()),
                ("modelName", Column()),
                ("busy", Column(ONE)),
                ("memory", Column("bytes")),
                ("temperature", Column("celsius")),
            ),
        ),
    ),
)
_HOST = Row(
    "Host",
    (
        Panel(
            "Processors",
            "What the processors do, in the kernel's words; iowait is waiting for a disk or the shared file system.",
            TIMESERIES,
            (
                Query(
                    f"sum by (mode) ({rate_once('node_cpu_seconds_total', 'cpu, mode', _HERE)})"
                    f" / scalar(count({once('node_cpu_seconds_total', 'cpu', _HERE)}))",
                    "{{mode}}",
                ),
            ),
            ONE,
            maximum=1,
            stacked=True,
        ),
        Panel(
            "Load",
            "Processes that run or wait, and the number of processors.",
            TIMESERIES,
            (
                Query(f"max(node_load1{{{_HERE}}})", "load, 1 minute"),
                Query(f"count({once('node_cpu_seconds_total', 'cpu', _HERE)})", "processors"),
            ),
        ),
        Panel(
            "Memory",
            "Memory that programs have, and all there is.",
            TIMESERIES,
            (
                Query(
                    f"max(node_memory_MemTotal_bytes{{{_HERE}}}) - max(node_memory_MemAvailable_bytes{{{_HERE}}})",
                    "used",
                ),
                Query(f"max(node_memory_MemTotal_bytes{{{_HERE}}})", "all"),
            ),
            "bytes",
        ),
        Panel(
            "Network",
            "Bytes a second by interface. Traffic of EFA does not pass the kernel and is not in here.",
            TIMESERIES,
            (
                Query(rate_once("node_network_receive_bytes_total", "device", _NETWORK), "{{device}} in"),
                Query(rate_once("node_network_transmit_bytes_total", "device", _NETWORK), "{{device}} out"),
            ),
            "Bps",
        ),
        Panel(
            "Local disks",
            "Bytes a second by disk. The shared file system is not one.",
            TIMESERIES,
            (
                Query(rate_once("node_disk_read_bytes_total", "device", _DEVICE), "{{device}} read"),
                Query(rate_once("node_disk_written_bytes_total", "device", _DEVICE), "{{device}} written"),
            ),
            "Bps",
        ),
        Panel(
            "File systems",
            "How full each is. Containers are unpacked on a local one.",
            TIMESERIES,
            (
                Query(
                    f"1 - {once('node_filesystem_avail_bytes', 'mountpoint', _DISK)}"
                    f" / {once('node_filesystem_size_bytes', 'mountpoint', _DISK)}",
                    "{{mountpoint}}",
                ),
            ),
            ONE,
            thresholds=FULL,
            maximum=1,
        ),
    ),
)
_GPUS = Row(
    "GPUs",
    (
        Panel(
            "Utilisation",
            "Which part of the time each GPU had something to do.",
            TIMESERIES,
            (Query(f"{once('DCGM_FI_DEV_GPU_UTIL', 'node, gpu', _HERE)} / 100", "GPU {{gpu}}"),),
            ONE,
            maximum=1,
            link=GPU_OF_SERIES,
        ),
        Panel(
            "Temperature",
            "From 85 °C on a GPU slows down, and with it every node of the job.",
            TIMESERIES,
            (Query(once("DCGM_FI_DEV_GPU_TEMP", "node, gpu", _HERE), "GPU {{gpu}}"),),
            "celsius",
            thresholds=HOT,
            link=GPU_OF_SERIES,
        ),
        Panel(
            "Power",
            "What each GPU draws.",
            TIMESERIES,
            (Query(once("DCGM_FI_DEV_POWER_USAGE", "node, gpu", _HERE), "GPU {{gpu}}"),),
            "watt",
            link=GPU_OF_SERIES,
        ),
    ),
)

NODE = Dashboard(
    NODE_UID,
    "slurm-fsx: node",
    "What runs on a node, and what its processors, memory, disks, network and GPUs do.",
    (CLUSTER_VARIABLE, NODE_VARIABLE),
    (_NOW, _TABLES, _HOST, _GPUS),
)
