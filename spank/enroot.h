/* What enroot is asked, as the user and with the environment in which Pyxis will ask it. */
#ifndef SLURM_FSX_ENROOT_H
#define SLURM_FSX_ENROOT_H

#include <limits.h>

#include "child.h"
#include "container.h"

/* Joins slurmstepd's own variables and the step's, without those that Pyxis keeps from enroot. */
void enroot_environment(char *const *own, char *const *step, struct words *words);

/* Finds enroot by a list of folders, as Pyxis does. `program`, or NULL. */
const char *enroot_find(const char *folders, char program[PATH_MAX]);

/*
 * Asks enroot where it keeps this user's containers (ENROOT_DATA_PATH), which it makes if it is missing. It reads its
 * settings as shell, and so they may depend on the user: only enroot itself can tell. 0 or -errno.
 */
int enroot_data_path(const struct user *user, const char *program, const struct words *environment, const char *run_dir,
		     int timeout_ms, char path[PATH_MAX]);

/* Unpacks an image into a container of that name. 0, or -errno; -EIO where enroot failed, with its last line in `why`. */
int enroot_create(const struct user *user, const char *program, const struct words *environment, const char *container,
		  const char *image, int timeout_ms, char *why, size_t size);

#endif
