#!/bin/sh
# Lists the images in the catalogue, and what each short name means now: `slurm-fsx containers list`, which takes the
# same options, e.g. --json.
set -u
home=/opt/slurm-fsx

if [ ! -x "$home/bin/slurm-fsx" ]; then
	echo "list-containers.sh: $home/bin/slurm-fsx is missing on $(uname -n): install slurm-fsx-tools there" >&2
	exit 127
fi
exec "$home/bin/slurm-fsx" containers list "$@"
