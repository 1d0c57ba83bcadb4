/* In the SPANK epilog, as root, before Pyxis's epilog and before slurm.conf's. */
#ifndef SLURM_FSX_SLURMD_H
#define SLURM_FSX_SLURMD_H

#include <slurm/spank.h>

/* Takes away the container mounts of a job whose slurmstepd could not. */
void slurmd_clean_up(spank_t spank);

#endif
