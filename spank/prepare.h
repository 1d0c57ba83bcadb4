/* Has a named container's root stand before Pyxis looks for it, and takes it away again. */
#ifndef SLURM_FSX_PREPARE_H
#define SLURM_FSX_PREPARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "child.h"
#include "container.h"

struct preparation {
	const struct user *user;
	uint32_t job;
	const char *container;  /* as enroot knows it, e.g. pyxis_12_pytorch */
	const char *image;
	const char *state_dir;
	const char *run_dir;
	const char *containers; /* the catalogue: its images alone have local copies */
	const char *stage;      /* "" = no local copies */
	const char *enroot;     /* the program */
	const struct words *enroot_environment;
	bool keeps_writes;      /* container_scope=global */
	bool unpacks;           /* prepare: unpack */
	int lock_timeout_ms;
	int unpack_timeout_ms;
};

enum prepared {
	PREPARED_BEFORE,   /* by another step or job, and fit for use */
	PREPARED_MOUNTED,
	PREPARED_UNPACKED,
	PREPARED_OLDER,    /* as before, but its image is not today's: a job that runs uses it */
	PREPARED_FOREIGN,  /* somebody has unpacked it: it is left to Pyxis */
};

/*
 * Prepares a root. Gives how, or -errno with a reason in `why` and nothing left behind: Pyxis then goes on as without us.
 * Takes a few seconds at most, but for an image that must be unpacked.
 */
int root_prepare(const struct preparation *preparation, char *why, size_t size);

/*
 * Takes away what a job that has ended used and no other uses: mounts, squashfuse, the directory that Pyxis's own epilog
 * would fail at, and, unless the container keeps them, its writes, which go to the trash. Gives how many were taken away;
 * each that could not be is told by `complain`.
 */
int roots_release(const char *state_dir, const char *run_dir, uint32_t job,
		  void (*complain)(const char *container, int error));

#endif
