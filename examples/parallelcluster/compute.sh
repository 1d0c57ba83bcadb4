#!/bin/bash
# OnNodeConfigured of compute nodes: puts slurm-fsx-tools on the local disk, and sets the node up.
# Ends well whatever happens: ParallelCluster would replace the node for ever, and jobs run without us, too.
#
#   compute.sh s3://amzn-s3-my-bucket/slurm-fsx/slurm-fsx.tar.gz    or the path of an archive, below /fsx say
set -u
archive=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fetch() {
	case $1 in
	s3://*) timeout 120 aws s3 cp --only-show-errors "$1" "$2" ;;
	*) timeout 120 cp "$1" "$2" ;;
	esac
}

install() {
	fetch "$archive" "$work/archive.tar.gz" && fetch "$archive.sha256" "$work/sum" &&
		read -r wanted _ <"$work/sum" && echo "$wanted  $work/archive.tar.gz" | sha256sum --check --quiet &&
		tar -xzf "$work/archive.tar.gz" -C "$work" --no-same-owner && sh "$work"/slurm-fsx-*/install.sh
}

if ! install || ! /opt/slurm-fsx/bin/slurm-fsx setup node --wait 120; then
	logger --tag slurm-fsx --stderr "this node was not set up whole: see the log of OnNodeConfigured"
fi
exit 0
