/* Copies of images on a node's own disk (containers.stage), made by slurm_fsx_tools/containers/on_node/local_copies.py. */
#ifndef SLURM_FSX_LOCAL_COPY_H
#define SLURM_FSX_LOCAL_COPY_H

/*
 * Opens the copy of an image that is open as `source` and called `path`: only a file of root's folder STAGE/slurm-fsx-images
 * that has the source's size and modification time. Marks it as used. A descriptor, or -errno; -ESTALE where it differs.
 * The caller has opened the source as the user, so the copy shows nobody what the source would not.
 */
int local_copy_open(const char *stage, const char *path, int source);

#endif
