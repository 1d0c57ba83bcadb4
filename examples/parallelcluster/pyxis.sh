#!/bin/bash
# OnNodeConfigured of every node, before ours: turns on Pyxis and enroot, which ParallelCluster 3.11 and newer bring along
# switched off. Source: AWS ParallelCluster's cookbook, pull request 2820: the examples lie in /opt/parallelcluster/examples.
set -u
examples=/opt/parallelcluster/examples

for example in enroot/enroot.conf spank/plugstack.conf pyxis/pyxis.conf; do
	if [ ! -r "$examples/$example" ]; then
		# Containers are then up to what slurm-fsx finds: bubblewrap and squashfuse, say.
		logger --tag slurm-fsx --stderr "this image has no Pyxis: $examples/$example is missing"
		exit 0
	fi
done

# Containers are unpacked on local disk: on a shared file system, locks time out.
mkdir -p /etc/enroot /var/lib/enroot
install -d -m 1777 /var/lib/enroot/data /var/lib/enroot/cache
grep -vE '^ENROOT_(DATA|CACHE)_PATH' "$examples/enroot/enroot.conf" >/etc/enroot/enroot.conf
for kind in DATA CACHE; do
	echo "ENROOT_${kind}_PATH /var/lib/enroot/${kind,,}/user-\$(id -u)" >>/etc/enroot/enroot.conf
done

# /opt/slurm is the head node's, and shared: compute nodes find the lines there.
if [ ! -e /opt/slurm/etc/plugstack.conf ] && [ -w /opt/slurm/etc ]; then
	mkdir -p /opt/slurm/etc/plugstack.conf.d
	cp "$examples/spank/plugstack.conf" /opt/slurm/etc/plugstack.conf
	cp "$examples/pyxis/pyxis.conf" /opt/slurm/etc/plugstack.conf.d/pyxis.conf
fi
exit 0
