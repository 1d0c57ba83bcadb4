/* runtime=enroot: `enroot start` on the image itself, without Pyxis. */
#ifndef SLURM_FSX_RUNTIME_ENROOT_H
#define SLURM_FSX_RUNTIME_ENROOT_H

#include "container.h"

/* Adds enroot's own words up to, and without, `--env` and the image. 0 or -errno. */
int enroot_words(const struct container *container, const char *enroot, struct words *words);

/* Adds the image, and what takes the task's own words from there to its working folder. */
void enroot_add_command(const struct container *container, struct words *words);

#endif
