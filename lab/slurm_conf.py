"""The configuration files of the cluster's Slurm, for any release from 22.05 on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

CONTROLLER_PORT = 6817
FIRST_NODE_PORT = 7001
CPUS = 8

# A cluster has a network of its own, so ports and addresses are nobody else's.
_SETTINGS = {
    "ClusterName": "lab",
    "SlurmctldHost": "head",
    "SlurmctldPort": str(CONTROLLER_PORT),
    "SlurmUser": "root",
    "SlurmdUser": "root",
    "AuthType": "auth/munge",
    "CredType": "cred/munge",
    # A requeued job waits this long, so that no node takes its second run for the first; 120 s by default.
    "AuthInfo": "cred_expire=10",
    "MpiDefault": "none",
    "ReturnToService": "2",
    "StateSaveLocation": "/var/spool/slurmctld",
    "SlurmdSpoolDir": "/var/spool/slurmd",
    "SlurmctldPidFile": "/run/slurmctld.pid",
    "SlurmdPidFile": "/run/slurmd.pid",
    "SlurmctldLogFile": "/var/log/slurm/slurmctld.log",
    "SlurmdLogFile": "/var/log/slurm/slurmd.log",
    "SlurmctldDebug": "verbose",
    "SlurmdDebug": "verbose",
    # No cgroups: they would be the host's.
    "ProctrackType": "proctrack/linuxproc",
    "TaskPlugin": "task/none",
    "JobAcctGatherType": "jobacct_gather/none",
    "SelectType": "select/cons_tres",
    "SelectTypeParameters": "CR_CPU",
    # More CPUs than the host may have.
    "SlurmdParameters": "config_overrides",
    "SchedulerParameters": "sched_interval=1,batch_sched_delay=0,bf_interval=1",
    "KillWait": "2",
    "PrologFlags": "Alloc",
    "Prolog": "/etc/slurm/prolog.d/*",
    "Epilog": "/etc/slurm/epilog.d/*",
    "MailProg": "/bin/true",
}


class NodeLine(NamedTuple):
    """A node as slurm.conf knows it."""

    name: str
    address: str
    port: int


# slurmd 22.05 takes a pattern without any file for a failed prolog, and drains the node (observed).
NO_SCRIPT = "#!/bin/sh\nexit 0\n"


def slurm_conf(nodes: list[NodeLine], gpus: int, extra: Mapping[str, str | None]) -> str:
    """Write slurm.conf. `extra` adds settings, replaces them, or removes them by None."""
    settings: dict[str, str | None] = {**_SETTINGS, **({"GresTypes": "gpu"} if gpus else {}), **extra}
    lines = [f"{name}={value}" for name, value in settings.items() if value is not None]
    gres = f" Gres=gpu:{gpus}" if gpus else ""
    lines += [
        f"NodeName={node.name} NodeAddr={node.address} Port={node.port} CPUs={CPUS} RealMemory=1000{gres}"
        for node in nodes
    ]
    lines.append("PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP")
    return "\n".join(lines) + "\n"


def gres_conf(gpus: int) -> str:
    """Write gres.conf: pretended GPUs with a device each, so that Slurm numbers them for prologs and tasks."""
    return "".join(f"Name=gpu File=/dev/nvidia{gpu}\n" for gpu in range(gpus))


def cgroup_conf(release: tuple[int, int]) -> str:
    """Write cgroup.conf. Newer releases look for a cgroup hierarchy to manage unless told otherwise."""
    return "CgroupPlugin=disabled\n" if release >= (23, 0) else ""
