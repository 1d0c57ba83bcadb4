/* The step that this slurmstepd runs: what its start, its tasks and its end share. */
#ifndef SLURM_FSX_STEP_H
#define SLURM_FSX_STEP_H

#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include <slurm/spank.h>

#include "child.h"
#include "container.h"
#include "env_file.h"
#include "plugin_conf.h"

/* Shared by slurmstepd and its tasks, which are forks of it. */
struct progress {
	atomic_bool a_task_started; /* past every other plugin's start, Pyxis's too */
	atomic_bool explained;
};

struct step {
	bool started;
	uint32_t job;
	uint32_t step;
	struct env_file operations;
	bool nccl_is_off; /* for this step, not for the job */
	char *nccl_version; /* in the environment before any container; NULL where unset */
	char *image;        /* the path resolved at submission, or the user's own; NULL where none */
	struct stat node_root;
	struct plugin_conf conf;
	struct progress *progress;

	/* With a runtime of ours. */
	bool wants_container;
	struct container_mounts mounts;
	char mount_point[PATH_MAX + 96]; /* "" where nothing is mounted */
	char program[PATH_MAX];         /* bwrap or enroot */
	char failure[2 * PATH_MAX];      /* why no task can start; "" = none */
};

extern struct step step;

/* The environment of the step; in a task, of the task. */
struct environment step_environment(spank_t spank);

/* Whose step this is. The groups stay Slurm's. 0 or -1. */
int step_user(spank_t spank, struct user *user);

/* Applies the job's operations, or undoes them. `root` is the opened image of a container still to be entered, or -1. */
void step_apply_operations(const struct environment *environment, bool in_container, int root);

/* Says why no task can start, readably: this is what the user gets instead of a container. */
void step_fail(const char *what, const char *detail, const char *next);
void step_fail_at_image(int error);

#endif
