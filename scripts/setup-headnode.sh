#!/bin/sh
# Sets up the head node, and Slurm's hooks: `slurm-fsx setup head`, which takes the same options, and `setup hooks`.
#
#   sudo bash setup-headnode.sh [--dry-run] [--allow-unmounted] [--no-images] [...]
set -u
home=/opt/slurm-fsx

if [ ! -x "$home/bin/slurm-fsx" ]; then
	echo "setup-headnode.sh: $home/bin/slurm-fsx is missing on $(uname -n): install slurm-fsx-tools there" >&2
	exit 127
fi
dry_run=''
for word; do
	[ "$word" != --dry-run ] || dry_run=--dry-run
done
"$home/bin/slurm-fsx" setup head "$@" || exit
exec "$home/bin/slurm-fsx" setup hooks ${dry_run:+"$dry_run"}
