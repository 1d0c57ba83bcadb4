#!/bin/bash
# OnNodeConfigured of compute nodes: puts slurm-fsx-tools on the local disk, and sets the node up. Args: the archive, as
# s3://BUCKET/slurm-fsx/slurm-fsx.tar.gz or a path, below /fsx say; then options of `slurm-fsx setup node`.
# Ends well whatever happens: ParallelCluster would replace the node for ever, and jobs run without us, too.
set -u
archive=${1-}
shift || true
command=/opt/slurm-fsx/bin/slurm-fsx
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
whole=yes
install || whole=no
# Also by a version that the node's image brings: better than none.
{ [ -x "$command" ] && "$command" setup node --wait 120 "$@"; } || whole=no
[ "$whole" = yes ] ||
	logger --tag slurm-fsx --stderr "this node was not set up whole by $archive: see the log of OnNodeConfigured"
exit 0
