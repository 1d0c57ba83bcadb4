/* In srun, sbatch and salloc, as the user: from a container's name to the path of its image. */
#ifndef SLURM_FSX_SUBMIT_H
#define SLURM_FSX_SUBMIT_H

#include <stdbool.h>

#include <slurm/spank.h>

/* What submit side and step side tell each other. Only SLURM_* survives `srun --export=NONE` on every release. */
#define IMAGE_VARIABLE "SLURM_FSX_CONTAINER_IMAGE"
#define NCCL_VARIABLE "SLURM_FSX_NCCL"

/* Runs when all options are known. Ends the process where the site refuses unknown names, else never stops anybody. */
void submit_resolve(spank_t spank, bool is_srun);

#endif
