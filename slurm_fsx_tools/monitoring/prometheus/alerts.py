"""Alerts: what an admin should know of, with what to do.

Each has a time that it must last (``for``), or looks back over one, so that a missed scrape raises none and ends none.
Values that stay, like a GPU's last XID error, keep their alert until somebody has acted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

CRITICAL, WARNING, INFO = "critical", "warning", "info"
"""Jobs fail or data is at risk; somebody should look today; worth to know."""

HOT_C = 85
"""From this on, in °C, a data-centre GPU is above what NVIDIA names its maximum operating temperature."""

APPLICATION_XIDS = (13, 31, 43, 45, 68, 69)
"""XID errors that a user's program causes, or that follow from its end. Source: NVIDIA, Xid Errors."""

_AWAY = "power.*|future|.*[~#%]"
"""States of nodes that nobody misses, with sinfo's marks."""

_GPU = "cluster, node, gpu, UUID"
_JOB = "cluster, jobid, user, account"
_IDLE_S = 1800


@dataclass(frozen=True)
class Alert:
    """A condition that Prometheus watches."""

    name: str
    expression: str
    for_: str
    """How long it must hold, e.g. ``5m``; ``0s`` where the expression itself looks back, or its value stays."""

    severity: str
    summary: str
    """One line, in Prometheus' template language."""

    description: str
    """What it means, and what to do."""

    def as_yaml(self) -> dict[str, Any]:
        """Give it as Prometheus reads it."""
        return {
            "alert": self.name,
            "expr": self.expression,
            "for": self.for_,
            "labels": {"severity": self.severity},
            "annotations": {"summary": self.summary, "description": self.description},
        }


def alerts(fsx_root: str) -> list[Alert]:
    """Give the alerts; `fsx_root` is where the shared file system is mounted."""
    return [*_of_exporters(), *_of_gpus(), *_of_fsx(fsx_root), *_of_the_product()]


def _of_exporters() -> list[Alert]:
    return [
        Alert(
            "SlurmFsxNodeExporterDown",
            'max by (cluster, node) (up{exporter="node_exporter"}) == 0',
            "5m",
            WARNING,
            "node_exporter on {{ $labels.node }} does not answer",
            "No metric of this node or of the jobs on it is taken. See whether the node is up (sinfo -n"
            " {{ $labels.node }}); if it is: systemctl status prometheus-node-exporter there, and whether its port is"
            " open to the head node. A node that Slurm powers down loses its target by itself.",
        ),
        Alert(
            "SlurmFsxGpuExporterDown",
            'max by (cluster, node) (up{exporter="dcgm-exporter"}) == 0',
            "5m",
            WARNING,
            "dcgm-exporter on {{ $labels.node }} does not answer",
            "No metric of this node's GPUs is taken, so no other alert about them can fire. On the node: see what its"
            " port answers (curl -s localhost:9400/metrics | head), and the service's log. An answer of 500 where"
            " hpc-job-mapping-dir is used means a job that stands twice in a file of that folder.",
        ),
        Alert(
            "SlurmFsxTargetsMissing",
            # Two halves: nodes that nobody has registered, and registered ones that Prometheus has not found.
            f'sum by (cluster) (slurm_fsx_nodes{{state!~"{_AWAY}"}}) - on (cluster) slurm_fsx:registered_nodes > 0'
            " or slurm_fsx:registered_nodes - on (cluster) slurm_fsx:scraped_nodes > 0"
            " or slurm_fsx:registered_nodes > 0 unless on (cluster) slurm_fsx:scraped_nodes",
            "15m",
            WARNING,
            "{{ $value }} nodes of cluster {{ $labels.cluster }} are not in Prometheus",
            "Slurm has more nodes than Prometheus scrapes. Run slurm-fsx monitoring sync on the head node and read what"
            " it says; see that Prometheus reads the folder of targets (Status, Targets in its web page), and that the"
            " nodes run node_exporter.",
        ),
        Alert(
            "SlurmFsxTargetFileBroken",
            "sum by (instance) (increase(prometheus_sd_file_read_errors_total[15m])) > 0",
            "0s",
            WARNING,
            "Prometheus cannot read a file of targets",
            "Somebody has written, or half written, a file in the folder of targets; the nodes in the other files are"
            " scraped as before. Prometheus' log names it: remove it, then run slurm-fsx monitoring sync.",
        ),
        Alert(
            "SlurmFsxTextfileBroken",
            "max by (cluster, node) (node_textfile_scrape_error) > 0",
            "5m",
            WARNING,
            "node_exporter on {{ $labels.node }} cannot read a metrics file",
            "Jobs on this node may be missing in all metrics. Its log names the file (journalctl -u"
            " prometheus-node-exporter): one that is not slurm_fsx_*.prom is its writer's to mend.",
        ),
    ]


def _of_gpus() -> list[Alert]:
    not_by_users = " ".join(f"!= {xid}" for xid in APPLICATION_XIDS)
    return [
        Alert(
            "SlurmFsxGpuXidError",
            f"max by ({_GPU}) (last_over_time(DCGM_FI_DEV_XID_ERRORS[5m])) != 0 {not_by_users}",
            "0s",  # the metric keeps the last error until the driver is loaded again
            CRITICAL,
            "GPU {{ $labels.gpu }} of {{ $labels.node }} had XID error {{ $value }}",
            "The driver reports a fault that no user's program causes. Drain the node (scontrol update"
            " NodeName={{ $labels.node }} State=DRAIN Reason=XID), see dmesg | grep -i xid there, and look the number"
            " up in NVIDIA's Xid catalogue: 79 (fallen off the bus), 95 or 119 mean a reset or another instance. The"
            " alert ends when the GPU has been reset or the node replaced.",
        ),
        Alert(
            "SlurmFsxGpuEccErrors",
            f"max by ({_GPU}) (last_over_time(DCGM_FI_DEV_ECC_DBE_VOL_TOTAL[5m])) > 0"
            f" or max by ({_GPU}) (increase(DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS[6h])) > 0",
            "0s",
            CRITICAL,
            "GPU {{ $labels.gpu }} of {{ $labels.node }} has memory errors that ECC could not correct",
            "Results of jobs on this GPU since then are in doubt; most have been ended. Drain the node and reset the"
            " GPU or reboot (rows are remapped then). If it happens again on the same UUID ({{ $labels.UUID }}), have"
            " it replaced.",
        ),
        Alert(
            "SlurmFsxGpuRowRemapFailure",
            f"max by ({_GPU}) (last_over_time(DCGM_FI_DEV_ROW_REMAP_FAILURE[5m])) > 0",
            "0s",
            CRITICAL,
            "GPU {{ $labels.gpu }} of {{ $labels.node }} has no spare memory rows left",
            "The GPU cannot mend its memory any more. Drain the node and have it replaced: stop and start the instance,"
            " or open a case, with the UUID {{ $labels.UUID }}.",
        ),
        Alert(
            "SlurmFsxGpuHot",
            f"max by ({_GPU}) (min_over_time(DCGM_FI_DEV_GPU_TEMP[5m])) >= {HOT_C}",
            "2m",
            WARNING,
            "GPU {{ $labels.gpu }} of {{ $labels.node }} is at {{ $value }} °C",
            "Above its maximum operating temperature a GPU slows down, and with it every node of the job. See"
            " nvidia-smi -q -d PERFORMANCE,TEMPERATURE there; where it stays so without load, replace the node.",
        ),
        Alert(
            "SlurmFsxGpusIdleInJob",
            f"count by ({_JOB}) ("
            f"max_over_time(slurm_fsx:job_gpu_utilization[{_IDLE_S}s]) < 0.01"
            " and last_over_time(slurm_fsx:job_gpu_utilization[3m]) >= 0"  # the job is there still
            " and on (cluster, node, jobid)"
            f" time() - last_over_time(slurm_fsx_job_start_time_seconds[3m]) > {_IDLE_S})",
            "5m",
            INFO,
            "Job {{ $labels.jobid }} of {{ $labels.user }} has {{ $value }} GPUs that did nothing for half an hour",
            "It may hang (a rank that waits for one that is gone), read its data too slowly, or have asked for more"
            " GPUs than it uses. See slurm-fsx job {{ $labels.jobid }}, and ask {{ $labels.user }}.",
        ),
    ]


def _of_fsx(root: str) -> list[Alert]:
    # All nodes see one file system: the first that answers speaks for it.
    mount = root.replace("\\", "\\\\").replace('"', '\\"')
    free = (
        f'min by (cluster) (node_filesystem_avail_bytes{{mountpoint="{mount}"}}'
        f' / node_filesystem_size_bytes{{mountpoint="{mount}"}})'
    )
    advice = (
        f"Writes of all jobs fail when it is full. See who fills it (lfs quota, du); images that nobody uses go by"
        f" slurm-fsx containers prune; FSx grows by aws fsx update-file-system --storage-capacity. It is mounted at"
        f" {root}."
    )
    return [
        Alert(
            "SlurmFsxStorageFilling",
            f"{free} < 0.15",
            "15m",
            WARNING,
            "The shared file system of cluster {{ $labels.cluster }} has {{ $value | humanizePercentage }} left",
            advice,
        ),
        Alert(
            "SlurmFsxStorageAlmostFull",
            f"{free} < 0.05",
            "5m",
            CRITICAL,
            "The shared file system of cluster {{ $labels.cluster }} has {{ $value | humanizePercentage }} left",
            advice,
        ),
    ]


def _of_the_product() -> list[Alert]:
    return [
        Alert(
            "SlurmFsxImageImportFailing",
            'max by (cluster) (slurm_fsx_image_imports{result="failed"}) > 0',
            "10m",
            WARNING,
            "{{ $value }} container images of cluster {{ $labels.cluster }} could not be imported",
            "Jobs that name them do not get them, or get an older one. On the head node slurm-fsx containers status"
            " says which and why; the next slurm-fsx containers import tries again.",
        ),
        Alert(
            "SlurmFsxFailOpen",
            # A counter that begins with a failure has no increase: Prometheus saw no 0 before it.
            "sum by (cluster, node, act) (increase(slurm_fsx_fail_open_total[30m])) > 0"
            " or max by (cluster, node, act) (slurm_fsx_fail_open_total > 0"
            " unless slurm_fsx_fail_open_total offset 30m)",
            "0s",
            WARNING,
            "The {{ $labels.act }} on {{ $labels.node }} gave up, and let the job start without its help",
            "The job ran, but maybe without its image, its NCCL environment or its metrics. The node's log says why:"
            " journalctl -t slurm-fsx. The usual cause is a shared file system that hangs: slurm-fsx doctor there.",
        ),
        Alert(
            "SlurmFsxSyncFailing",
            "max by (cluster) (slurm_fsx_sync_success) == 0"
            " or max by (cluster) (time() - slurm_fsx_sync_timestamp_seconds) > 900"
            " or absent(slurm_fsx_sync_timestamp_seconds)",
            "10m",
            WARNING,
            "slurm-fsx monitoring sync has not succeeded for a while",
            "New nodes are missing in Prometheus, and jobs' accounts and names may be. On the head node: systemctl"
            " status slurm-fsx-sync.timer, then slurm-fsx monitoring sync by hand, which says what is wrong. The last"
            " state that was known is kept.",
        ),
    ]
