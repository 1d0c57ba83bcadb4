/* What the first bytes of a squashfs image say, as slurm_fsx_tools.containers.squashfs reads them. */
#ifndef SLURM_FSX_SQUASHFS_H
#define SLURM_FSX_SQUASHFS_H

#include <sys/stat.h>

/*
 * Whether an opened file is a squashfs image of the version that can be mounted, with as many bytes as it says. Calls
 * nothing that is not async-signal-safe. 0; -ENOEXEC where it is none, -ENODATA where it is not whole, or another -errno.
 */
int squashfs_check(int fd, const struct stat *st);

/* The same for a path, which no symbolic link may be; 0 or -errno. */
int squashfs_check_path(const char *path);

/* Says of an image what squashfs_check(), or opening it, has found; `error` is an errno. */
const char *squashfs_trouble(int error);

#endif
