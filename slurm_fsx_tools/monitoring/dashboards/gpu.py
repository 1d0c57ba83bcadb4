"""The dashboard of GPUs: what they do, which jobs have them, and whether they are sound."""

from __future__ import annotations

from .model import GREEN, RED, TABLE, TIMELINE, TIMESERIES, Column, Dashboard, Panel, Query, Row
from .places import (
    CLUSTER_VARIABLE,
    GPU_UID,
    GPUS_VARIABLE,
    HOT,
    JOB_OF_ROW,
    NODE_OF_ROW,
    NODES_VARIABLE,
    ON_NODES,
    ONE,
    once,
    rate_once,
)

_HERE = f'{ON_NODES}, gpu=~"$gpu"'
_GPU = "node, gpu"
_NAME = "{{node}} GPU {{gpu}}"


def _graph(title: str, description: str, expression: str, unit: str = "short", maximum: float | None = None) -> Panel:
    return Panel(title, description, TIMESERIES, (Query(expression, _NAME),), unit, maximum=maximum)


_JOBS = Row(
    "Jobs",
    (
        Panel(
            "Jobs on GPUs",
            "When which job had which GPU.",
            TIMELINE,
            (
                Query(
                    f"max by ({_GPU}, jobid, user) (slurm_fsx:job_gpu_info{{{_HERE}}})",
                    f"{_NAME}: {{{{jobid}}}} {{{{user}}}}",
                ),
            ),
            width=14,
        ),
        Panel(
            "Now",
            "Which job has which GPU. A click opens the job or the node.",
            TABLE,
            (
                Query(f"max by ({_GPU}, UUID, jobid, user, account) (slurm_fsx:job_gpu_info{{{_HERE}}})"),
                Query(f"{once('DCGM_FI_DEV_GPU_UTIL', _GPU, _HERE)} / 100", "busy"),
            ),
            width=10,
            columns=(
                ("node", Column(link=NODE_OF_ROW)),
                ("gpu", Column()),
                ("jobid", Column(link=JOB_OF_ROW)),
                ("user", Column()),
                ("account", Column()),
                ("busy", Column(ONE)),
                ("UUID", Column()),
            ),
        ),
    ),
)
_WORK = Row(
    "Work",
    (
        _graph(
            "Utilisation",
            "Which part of the time a GPU had something to do; not how much of it was used.",
            f"{once('DCGM_FI_DEV_GPU_UTIL', _GPU, _HERE)} / 100",
            ONE,
            1,
        ),
        _graph(
            "Memory used",
            "In bytes; dcgm-exporter counts in MiB.",
            f"{once('DCGM_FI_DEV_FB_USED', _GPU, _HERE)} * 1048576",
            "bytes",
        ),
        _graph(
            "Memory busy",
            "Which part of the time memory was read or written.",
            f"{once('DCGM_FI_DEV_MEM_COPY_UTIL', _GPU, _HERE)} / 100",
            ONE,
            1,
        ),
        _graph("Power", "What each draws.", once("DCGM_FI_DEV_POWER_USAGE", _GPU, _HERE), "watt"),
        _graph(
            "SM clock",
            "Falls under load where power or heat is at its limit.",
            f"{once('DCGM_FI_DEV_SM_CLOCK', _GPU, _HERE)} * 1000000",
            "hertz",
        ),
        _graph(
            "NVLink",
            "As dcgm-exporter counts it, a second: whether there is traffic, and how it changes.",
            rate_once("DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL", _GPU, _HERE),
        ),
    ),
)
_HEALTH = Row(
    "Health",
    (
        Panel(
            "Temperature",
            "From 85 °C on there is an alert.",
            TIMESERIES,
            (Query(once("DCGM_FI_DEV_GPU_TEMP", _GPU, _HERE), _NAME),),
            "celsius",
            thresholds=HOT,
        ),
        Panel(
            "Last XID error",
            "The driver's number of the last error, kept until the GPU is reset; 0 for none. NVIDIA's Xid catalogue"
            " says what it means: 13, 31, 43 and 45 come from programs, 48, 79, 94 and 95 from the GPU.",
            TIMESERIES,
            (Query(once("DCGM_FI_DEV_XID_ERRORS", _GPU, _HERE), _NAME),),
            thresholds=((None, GREEN), (1, RED)),
        ),
        Panel(
            "Memory errors",
            "Errors that ECC could not correct since the driver was loaded. Results since then are in doubt.",
            TIMESERIES,
            (Query(once("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", _GPU, _HERE), _NAME),),
            thresholds=((None, GREEN), (1, RED)),
        ),
        _graph(
            "Remapped rows",
            "Rows of memory that were replaced after errors that could not be corrected.",
            once("DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", _GPU, _HERE),
        ),
        _graph(
            "PCIe replays",
            "Transfers a second that had to be repeated: a bad slot, riser or GPU.",
            rate_once("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", _GPU, _HERE),
        ),
    ),
)

GPU = Dashboard(
    GPU_UID,
    "slurm-fsx: GPU",
    "What GPUs do, which jobs have them, and whether they are sound.",
    (CLUSTER_VARIABLE, NODES_VARIABLE, GPUS_VARIABLE),
    (_JOBS, _WORK, _HEALTH),
)
