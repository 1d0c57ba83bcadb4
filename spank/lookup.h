/* A name's image by the catalogue's index, with a look at the file, in a child that may hang in our place. */
#ifndef SLURM_FSX_LOOKUP_H
#define SLURM_FSX_LOOKUP_H

#include <stddef.h>

#include "plugin_conf.h"

/*
 * 0 and the path of a whole image, or -errno: -ETIMEDOUT where the shared file system does not answer; -ESTALE or -ENOENT
 * where Python must be asked.
 */
int lookup_by_index(const struct plugin_conf *conf, const char *name, char *path, size_t size);

#endif
