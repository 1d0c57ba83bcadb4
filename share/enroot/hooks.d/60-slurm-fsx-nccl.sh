#!/bin/sh
# /etc/enroot/hooks.d/60-slurm-fsx-nccl.sh: containers that somebody starts by hand (enroot start) find the shared NCCL.
# Those of jobs have it from the SPANK plugin, which also knows --nccl and nccl.in_container. It goes with the mount of
# /fsx/nccl in /etc/enroot/mounts.d. A hook that fails would keep the container from starting: this one always ends well.

[ -z "${SLURM_JOB_ID-}" ] || exit 0
[ -f "${ENROOT_ENVIRON-}" ] && [ -d "${ENROOT_ROOTFS-}" ] || exit 0

# The version's own folder, so that a later switch changes nothing in this container.
library=/fsx/nccl/lib
if [ -L /fsx/nccl/current ]; then
    library=/fsx/nccl/$(readlink /fsx/nccl/current)/lib
fi
[ -d "$library" ] || exit 0

# An image with an NCCL of its own keeps it: its makers built the rest for that one.
if grep -q '^NCCL_VERSION=' "$ENROOT_ENVIRON"; then
    exit 0
fi
for folder in lib lib64 usr/lib usr/lib64 usr/local/lib usr/local/lib64 usr/lib/x86_64-linux-gnu usr/lib/aarch64-linux-gnu; do
    # A link may lead out of the image, to the node's own folder; where it leads inside, that folder is listed, too.
    [ -L "$ENROOT_ROOTFS/$folder" ] && continue
    for file in "$ENROOT_ROOTFS/$folder"/libnccl.so*; do
        if [ -e "$file" ] || [ -L "$file" ]; then
            exit 0
        fi
    done
done

list=$(sed -n 's/^LD_LIBRARY_PATH=//p' "$ENROOT_ENVIRON" | tail -n 1)
case ":$list:" in
    *":$library:"*) ;;
    *) printf 'LD_LIBRARY_PATH=%s\n' "$library${list:+:$list}" >>"$ENROOT_ENVIRON" ;;
esac
exit 0
