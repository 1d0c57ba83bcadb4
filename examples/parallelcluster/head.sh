#!/bin/bash
# OnNodeConfigured of the head node: puts slurm-fsx-tools there, and sets up /fsx and Slurm's hooks.
#
#   head.sh s3://amzn-s3-my-bucket/slurm-fsx/slurm-fsx.tar.gz    or the path of an archive, below /fsx say
set -eu
archive=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for suffix in '' .sha256; do
	case $archive in
	s3://*) aws s3 cp --only-show-errors "$archive$suffix" "$work/archive.tar.gz$suffix" ;;
	*) cp "$archive$suffix" "$work/archive.tar.gz$suffix" ;;
	esac
done
read -r wanted _ <"$work/archive.tar.gz.sha256"
echo "$wanted  $work/archive.tar.gz" | sha256sum --check --quiet
tar -xzf "$work/archive.tar.gz" -C "$work" --no-same-owner
sh "$work"/slurm-fsx-*/install.sh

/opt/slurm-fsx/bin/slurm-fsx setup hooks
/opt/slurm-fsx/bin/slurm-fsx setup head
