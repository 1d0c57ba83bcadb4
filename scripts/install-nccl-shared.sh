#!/bin/sh
# Installs NCCL, its network plugin and nccl-tests for all nodes: `slurm-fsx nccl install`, which takes the same options.
#
#   sudo bash /fsx/nccl/install-nccl-shared.sh [NCCL [PLUGIN [PREFIX]]] [--dry-run] [...]
#   sudo bash /fsx/nccl/install-nccl-shared.sh v2.28.7-1 v1.17.2-aws /fsx
set -u
home=/opt/slurm-fsx

if [ ! -x "$home/bin/slurm-fsx" ]; then
	echo "install-nccl-shared.sh: $home/bin/slurm-fsx is missing on $(uname -n): install slurm-fsx-tools there" >&2
	exit 127
fi
nccl='' ofi='' prefix=''
for name in nccl ofi prefix; do
	case ${1-} in
	'' | -*) break ;;
	esac
	case $name in
	nccl) nccl=$1 ;;
	ofi) ofi=$1 ;;
	prefix) prefix=$1 ;;
	esac
	shift
done
exec "$home/bin/slurm-fsx" nccl install \
	${nccl:+"--nccl=$nccl"} ${ofi:+"--ofi=$ofi"} ${prefix:+"--prefix=$prefix"} "$@"
