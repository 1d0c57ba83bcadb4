#!/bin/bash
# OnNodeConfigured of compute nodes: puts slurm-fsx-tools on the local disk, and sets the node up.
# Ends well whatever happens: ParallelCluster would replace the node for ever, and jobs run without us, too.
#
#   compute.sh s3://amzn-s3-my-bucket/slurm-fsx/slurm-fsx.tar.gz [OPTION ...]
#
# The archive may also be a path, below /fsx say. OPTIONs are those of `slurm-fsx setup node`.
set -u
archive=${1-}
shift || true
command=/opt/slurm-fsx/bin/slurm-fsx
whole=yes

fetch() {
	case $1 in
	s3://*) timeout 120 aws s3 cp --only-show-errors "$1" "$2" ;;
	*) timeout 120 cp "$1" "$2" ;;
	esac
}

install() {
	work=$(mktemp -d) || return
	trap 'rm -rf "$work"' EXIT
	fetch "$archive" "$work/archive.tar.gz" && fetch "$archive.sha256" "$work/sum" &&
		read -r wanted _ <"$work/sum" && echo "$wanted  $work/archive.tar.gz" | sha256sum --check --quiet &&
		tar -xzf "$work/archive.tar.gz" -C "$work" --no-same-owner && sh "$work"/slurm-fsx-*/install.sh
}

install || whole=no
# Also by a version that the node's image brings: better than none.
if [ ! -x "$command" ] || ! "$command" setup node --wait 120 "$@"; then
	whole=no
fi
[ "$whole" = yes ] ||
	logger --tag slurm-fsx --stderr "this node was not set up whole by $archive: see the log of OnNodeConfigured"
exit 0
