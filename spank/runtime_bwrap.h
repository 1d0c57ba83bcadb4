/* runtime=bwrap: a container by bubblewrap on a mounted image. */
#ifndef SLURM_FSX_RUNTIME_BWRAP_H
#define SLURM_FSX_RUNTIME_BWRAP_H

#include "container.h"

/*
 * Adds bwrap's own words up to `--`: a root on tmpfs, so that any mount point can be made, holding the image's top
 * folders; then what belongs to the node and the user. `root` is the opened image. 0 or -errno.
 */
int bwrap_words(const struct container *container, const char *bwrap, int root, struct words *words);

#endif
