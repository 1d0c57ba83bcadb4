from __future__ import annotations

import pytest

from slurm_fsx_tools.job import Job, Node

# As slurmd 22.05 passes it to a prolog, with --container-name given at submission.
PROLOG_22_05 = {
    "SLURM_CLUSTER_NAME": "gpu",
    "SLURM_CONF": "/etc/slurm/slurm.conf",
    "SLURM_CPUS_PER_NODE": "96",
    "SLURM_JOB_GID": "2001",
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_PARTITION": "train",
    "SLURM_JOB_UID": "2001",
    "SLURM_JOB_USER": "ada",
    "SLURM_JOB_WORK_DIR": "/home/ada",
    "SLURM_NODELIST": "gpu-[1-2]",
    "SLURM_NUM_NODES": "2",
    "SLURM_SCRIPT_CONTEXT": "prolog_slurmd",
    "SLURMD_NODENAME": "gpu-1",
    "SPANK__SLURM_SPANK_OPTION_pyxis_container_name": "pytorch:no_exec",
    "SPANK__SLURM_SPANK_OPTION_slurm_fsx_nccl": "off",
}


def test_a_job_is_read_in_slurms_own_words() -> None:
    assert Job.from_environment(PROLOG_22_05) == Job(
        id="4711",
        uid=2001,
        user="ada",
        partition="train",
        node=Node("gpu-1", "gpu"),
        node_list="gpu-[1-2]",
        container="pytorch:no_exec",
        nccl="off",
        nodes=2,
    )


def test_newer_slurm_tells_name_and_account() -> None:
    newer = {
        **PROLOG_22_05,
        "SLURM_JOB_NAME": "a\nb=c",
        "SLURM_JOB_ACCOUNT": "lab",
        "SLURM_JOB_NODELIST": "gpu-[1-4]",
        "SLURM_RESTART_COUNT": "2",
    }
    job = Job.from_environment(newer)
    assert (job.name, job.account, job.node_list, job.restart_count) == ("a\nb=c", "lab", "gpu-[1-4]", 2)


@pytest.mark.parametrize(
    ("variable", "value", "gpus"),
    [
        pytest.param("SLURM_JOB_GPUS", "0,1", ("0", "1"), id="indices"),
        pytest.param("SLURM_JOB_GPUS", "2.0,2.1", ("2.0", "2.1"), id="MIG-indices"),
        pytest.param("CUDA_VISIBLE_DEVICES", "MIG-3f5e/../x,GPU-1", ("GPU-1",), id="no-paths"),
        pytest.param("CUDA_VISIBLE_DEVICES", "", (), id="none"),
    ],
)
def test_gpus_are_taken_as_slurm_numbers_them(variable: str, value: str, gpus: tuple[str, ...]) -> None:
    assert Job.from_environment({**PROLOG_22_05, variable: value}).gpus == gpus


@pytest.mark.parametrize("job_id", ["", "4711x", "../4711", "-1", "٤"])
def test_an_environment_without_a_job_id_is_refused(job_id: str) -> None:
    with pytest.raises(ValueError, match="SLURM_JOB_ID"):
        Job.from_environment({**PROLOG_22_05, "SLURM_JOB_ID": job_id})


def test_a_node_without_a_name_from_slurm_has_its_hosts() -> None:
    assert Node.from_environment({}).name
