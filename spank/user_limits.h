/* The resource limits of the submitting shell, which Slurm sets after the last plugin: who calls execve() sooner must. */
#ifndef SLURM_FSX_USER_LIMITS_H
#define SLURM_FSX_USER_LIMITS_H

#include "env_file.h"

/* Sets what the SLURM_RLIMIT_* variables say, as far as the hard limits allow, and removes those variables. */
void user_limits_apply(const struct environment *environment);

#endif
