# NCCL on the shared file system, for sessions outside of Slurm's jobs.
[ -n "${SLURM_JOB_ID:-}" ] || [ ! -r /fsx/nccl/setup-nccl-env.sh ] || . /fsx/nccl/setup-nccl-env.sh
