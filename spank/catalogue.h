/* What root leaves in the catalogue's state folder (slurm_fsx_tools/containers/store.py) when a step starts. */
#ifndef SLURM_FSX_CATALOGUE_H
#define SLURM_FSX_CATALOGUE_H

#include <stdint.h>
#include <sys/types.h>

/*
 * Marks an image of the catalogue as used by a job: an empty file CONTAINERS/.slurm-fsx/uses/FILE/CLUSTER.JOB, by which
 * pruning spares it; JOB alone where the cluster (may be NULL) has no name that could be a file's. 0, or -errno; -EINVAL where the image does not lie in the folder itself.
 */
int catalogue_mark_use(const char *containers, const char *image, const char *cluster, uint32_t job, int timeout_ms);

/* Makes the user's own folder CONTAINERS/.slurm-fsx/caches/UID, for images that their jobs import. 0 or -errno. */
int catalogue_make_cache(const char *containers, uid_t uid, gid_t gid, int timeout_ms);

#endif
