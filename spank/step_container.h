/* A step's container where the runtime is ours: its image is mounted once a node, and each task is started in it. */
#ifndef SLURM_FSX_STEP_CONTAINER_H
#define SLURM_FSX_STEP_CONTAINER_H

#include <slurm/spank.h>

#include "env_file.h"

/* slurm_spank_init_post_opt, as root: mounts the image. What goes wrong is told when a task would start. */
void step_container_prepare(spank_t spank);

/*
 * slurm_spank_task_init, as the user, last of all plugins: puts the runtime around the task, on Slurm before 23.11 by
 * becoming it. A container that cannot start ends the task here. A limit of bwrap: it stays the task's parent, and a
 * signal that its group gets (`scancel --signal`, `--signal=` of sbatch) ends it, even where the task catches it.
 */
void step_container_start(spank_t spank, const struct environment *environment);

#endif
