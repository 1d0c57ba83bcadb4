#!/bin/sh
# Brings the running nodes to the NCCL that is installed: `slurm-fsx nccl apply`, which takes the same options.
#
#   sudo bash /fsx/nccl/apply-nccl-to-running-nodes.sh [--dry-run] [--nodes NODESET] [--failed]
set -u
home=/opt/slurm-fsx

if [ ! -x "$home/bin/slurm-fsx" ]; then
	echo "apply-nccl-to-running-nodes.sh: $home/bin/slurm-fsx is missing on $(uname -n): install slurm-fsx-tools there" >&2
	exit 127
fi
exec "$home/bin/slurm-fsx" nccl apply "$@"
