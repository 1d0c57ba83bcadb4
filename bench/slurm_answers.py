"""Slurm's commands as they answer on a large cluster: scripts that print what 24.11.5 printed, for as many nodes.

What slurmctld and the commands themselves take is no part of the figures: no machine has ten thousand nodes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_PARTITIONS = """\
PartitionName=all AllowGroups=ALL Default=YES State=UP
PartitionName=gpu AllowGroups=ALL Default=NO State=UP
"""


class SlurmAnswers:
    """Slurm's commands in a folder, for PATH.

    Args:
        folder: Where they are made.
        nodes: How many nodes there are, and how many jobs, one on each node.

    Attributes:
        partitions: Those of each node.
    """

    def __init__(self, folder: Path, nodes: int) -> None:
        folder.mkdir()
        self.folder = folder
        (folder / "partitions").write_text(_PARTITIONS)
        for name, script in {
            "scontrol": f"""\
case "$*" in
*nodes*) exec cat {folder}/nodes.json ;;
*partitions*) exec cat {folder}/partitions ;;
*config*) echo "ClusterName = bench" ;;
esac""",
            # A job on each node; the word between the fields is one that only who asks knows.
            "squeue": f"""\
for option; do
case $option in
--format=*) word=${{option#--format=}} word=${{word%%>*}} ;;
--Format=*) exec awk 'BEGIN {{ for (n = 0; n < {nodes}; n++)
    printf "%-12d%-12d%-12d%-160s%-192s\\n", n, 1, 1, "cpu=192,mem=2000G,node=1,billing=192,gres/gpu=8", "" }}' ;;
esac
done
exec awk -v w="$word" 'BEGIN {{ b = w "|"; for (n = 0; n < {nodes}; n++)
    print w ">" n b 2001 b "RUNNING" b "ada" b "physics" b "gpu" b "gpu-" n b 1 b 1795551876 b "N/A" b "a job" }}'
""",
            "sinfo": "echo slurm 24.11.5",
        }.items():
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)
        self.partitions = [["all", "gpu"] for _ in range(nodes)]
        self.write_nodes()

    def write_nodes(self) -> None:
        """Have the nodes told with the partitions that they have now."""
        template = json.dumps(_NODE, indent=1)
        records = (
            template.replace("@NAME@", f"gpu-{number}").replace('"@PARTITIONS@"', json.dumps(names))
            for number, names in enumerate(self.partitions)
        )
        (self.folder / "nodes.json").write_text(f'{{"nodes": [{", ".join(records)}], "errors": []}}')


_NODE: dict[str, Any] = {
    "architecture": "x86_64",
    "burstbuffer_network_address": "",
    "boards": 1,
    "boot_time": {"set": True, "infinite": False, "number": 1795532561},
    "cluster_name": "",
    "cores": 1,
    "specialized_cores": 0,
    "cpu_binding": 0,
    "cpu_load": 668,
    "free_mem": {"set": True, "infinite": False, "number": 16166},
    "cpus": 8,
    "effective_cpus": 8,
    "specialized_cpus": "",
    "energy": {
        "average_watts": 0,
        "base_consumed_energy": 0,
        "consumed_energy": 0,
        "current_watts": {"set": True, "infinite": False, "number": 0},
        "previous_consumed_energy": 0,
        "last_collected": 0,
    },
    "external_sensors": {},
    "extra": "",
    "power": {},
    "features": ["dynamic", "p5.48xlarge"],
    "active_features": ["dynamic", "p5.48xlarge"],
    "gpu_spec": "",
    "gres": "gpu:8",
    "gres_drained": "N/A",
    "gres_used": "gpu:0",
    "instance_id": "",
    "instance_type": "",
    "last_busy": {"set": True, "infinite": False, "number": 1795551875},
    "mcs_label": "",
    "specialized_memory": 0,
    "name": "@NAME@",
    "next_state_after_reboot": ["INVALID"],
    "address": "@NAME@",
    "hostname": "@NAME@",
    "state": ["IDLE"],
    "operating_system": "Linux 6.1.0 #1 SMP PREEMPT_DYNAMIC @0",
    "owner": "",
    "partitions": "@PARTITIONS@",
    "port": 7001,
    "real_memory": 1000,
    "res_cores_per_gpu": 0,
    "comment": "",
    "reason": "",
    "reason_changed_at": {"set": True, "infinite": False, "number": 0},
    "reason_set_by_user": "root",
    "resume_after": {"set": True, "infinite": False, "number": 0},
    "reservation": "",
    "alloc_memory": 0,
    "alloc_cpus": 0,
    "alloc_idle_cpus": 8,
    "tres_used": "",
    "tres_weighted": 0.0,
    "slurmd_start_time": {"set": True, "infinite": False, "number": 1795551875},
    "sockets": 8,
    "threads": 1,
    "temporary_disk": 0,
    "weight": 1,
    "tres": "cpu=8,mem=1000M,billing=8",
    "version": "24.11.5",
}
"""Recorded: ``scontrol show nodes --json``."""
