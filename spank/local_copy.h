/* Copies of images on a node's own disk (containers.stage), made by slurm_fsx_tools/containers/on_node/local_copies.py. */
#ifndef SLURM_FSX_LOCAL_COPY_H
#define SLURM_FSX_LOCAL_COPY_H

#include "child.h"

/*
 * Opens, as the user, the copy of an image of the catalogue that is open as `source` and called `path`: only a file of
 * root's folder STAGE/slurm-fsx-images that has the source's size and modification time. Marks it as used. A descriptor,
 * or -errno; -ESTALE where it differs.
 */
int local_copy_open(const struct user *user, const char *containers, const char *stage, const char *path, int source);

#endif
