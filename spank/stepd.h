/* In slurmstepd: a step's start as root, each task's start as the user, the step's end as root. */
#ifndef SLURM_FSX_STEPD_H
#define SLURM_FSX_STEPD_H

#include <slurm/spank.h>

/* slurm_spank_init: reads the job's environment file and gives Pyxis its image. May be called once per line. */
void stepd_start_step(spank_t spank);

/* slurm_spank_task_init, as the user, behind Pyxis: applies the environment; starts a container of ours. */
void stepd_start_task(spank_t spank);

/* slurm_spank_task_exit: says why, where a task failed because its image has gone. */
void stepd_end_task(spank_t spank);

/* slurm_spank_exit, as root. */
void stepd_end_step(void);

#endif
