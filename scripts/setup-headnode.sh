#!/bin/sh
# Sets up the head node, and Slurm's hooks: `slurm-fsx setup head`, which takes the same options, and `setup hooks`.
#
#   sudo bash setup-headnode.sh [--dry-run] [--edit-slurm-conf] [--allow-unmounted] [--no-images] [...]
set -u
home=/opt/slurm-fsx

if [ ! -x "$home/bin/slurm-fsx" ]; then
	echo "setup-headnode.sh: $home/bin/slurm-fsx is missing on $(uname -n): install slurm-fsx-tools there" >&2
	exit 127
fi
hooks=
for word; do
	shift
	case $word in
	-h | --help) exec "$home/bin/slurm-fsx" setup head --help ;;
	--edit-slurm-conf) hooks="$hooks $word" && continue ;;
	--dry-run | --force) hooks="$hooks $word" ;;
	esac
	set -- "$@" "$word"
done
"$home/bin/slurm-fsx" setup head "$@" || exit
# shellcheck disable=SC2086  # words of the list above
exec "$home/bin/slurm-fsx" setup hooks $hooks
