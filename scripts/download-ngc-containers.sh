#!/bin/sh
# Brings every image of FSX/config/containers.txt, or of FILE, into the catalogue: `slurm-fsx containers sync`, which
# takes the same options.
#
#   sudo bash /fsx/scripts/download-ngc-containers.sh [--background] [FILE]
set -u
home=/opt/slurm-fsx

if [ ! -x "$home/bin/slurm-fsx" ]; then
	echo "download-ngc-containers.sh: $home/bin/slurm-fsx is missing on $(uname -n): install slurm-fsx-tools there" >&2
	exit 127
fi
exec "$home/bin/slurm-fsx" containers sync "$@"
