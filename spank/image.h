/* What stands in a container's image, seen from its root: an NCCL of its own, its environment. */
#ifndef SLURM_FSX_IMAGE_H
#define SLURM_FSX_IMAGE_H

#include <stdbool.h>

/*
 * Opens `path` below the image's root, as O_PATH plus `flags`. Absolute symbolic links lead to the image's own files,
 * where the kernel can see to that (5.6 and later). A descriptor or -errno.
 */
int image_open(int root, const char *path, int flags);

/*
 * Whether the image has a libnccl in its library folders, or in those that LD_LIBRARY_PATH (may be NULL) names outside
 * `fsx_root`. Nothing below `fsx_root` is touched.
 */
bool image_has_nccl(int root, const char *ld_library_path, const char *fsx_root);

/* Reads the image's /etc/environment. 0 and *text (to free), or -errno. */
int image_read_environment(int root, char **text);

#endif
