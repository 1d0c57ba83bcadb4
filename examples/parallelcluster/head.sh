#!/bin/bash
# OnNodeConfigured of the head node: puts slurm-fsx-tools there, and sets up /fsx and Slurm's hooks. Args: the archive, as
# s3://BUCKET/slurm-fsx/slurm-fsx.tar.gz or a path, below /fsx say; then options of `slurm-fsx setup head`:
# --no-prometheus where no Prometheus is wanted, or Ubuntu's packages cannot be reached.
set -eu
fail() {
	echo "head.sh: $1" >&2
	exit 1
}
[ $# -ge 1 ] || fail "name the archive of slurm-fsx in Args, as s3://BUCKET/slurm-fsx/slurm-fsx.tar.gz"
archive=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for suffix in '' .sha256; do
	case $archive in
	s3://*) aws s3 cp --only-show-errors "$archive$suffix" "$work/archive.tar.gz$suffix" ;;
	*) cp "$archive$suffix" "$work/archive.tar.gz$suffix" ;;
	esac || fail "$archive$suffix cannot be had: is it there, and may this node read it?"
done
read -r wanted _ <"$work/archive.tar.gz.sha256"
echo "$wanted  $work/archive.tar.gz" | sha256sum --check --status ||
	fail "$archive is not what $archive.sha256 says: put both there again"
tar -xzf "$work/archive.tar.gz" -C "$work" --no-same-owner
sh "$work"/slurm-fsx-*/install.sh

/opt/slurm-fsx/bin/slurm-fsx setup hooks
/opt/slurm-fsx/bin/slurm-fsx setup head "$@"
