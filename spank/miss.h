/* Steps that named a container for which no image was found, counted for the node's metrics. */
#ifndef SLURM_FSX_MISS_H
#define SLURM_FSX_MISS_H

/*
 * Adds a byte to `run_dir`/resolution-misses, whose size is the count (slurm_fsx_tools/counters.py): appending takes no
 * lock, and a killed process has counted or has not. 0, or -errno; -EPERM where the file is not our own.
 */
int miss_count(const char *run_dir);

#endif
