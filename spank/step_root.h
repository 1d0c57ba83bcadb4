/* A step's container where the runtime is Pyxis: its root is prepared before Pyxis looks for it. */
#ifndef SLURM_FSX_STEP_ROOT_H
#define SLURM_FSX_STEP_ROOT_H

#include <slurm/spank.h>

/*
 * slurm_spank_init, as root, after the step's image is known. Does nothing for a step without a container; whatever goes
 * wrong is told in one line, and Pyxis goes on as it would without us.
 */
void step_root_prepare(spank_t spank);

#endif
