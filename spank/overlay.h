/*
 * The overlay that is a container's root, on a directory in a folder that belongs to its user. A user can put anything
 * there, links and file systems of their own too: so root never walks there, and works on opened directories that it has
 * checked, or on mount points that it has found by what only root can have mounted.
 */
#ifndef SLURM_FSX_OVERLAY_H
#define SLURM_FSX_OVERLAY_H

#include <stdbool.h>

#include "child.h"
#include "root.h"

/*
 * Opens the directory `container` in `folder` as the user, made if it is missing. A descriptor and its path, or -errno:
 * -ENOTEMPTY where it holds something, a container that somebody unpacked; -EPERM where it is not the user's own.
 */
int target_open(const struct user *user, const char *folder, const char *container, int timeout_ms, char path[PATH_MAX]);

/* Removes an empty directory, as the user. */
void target_remove(const struct user *user, const char *path, int timeout_ms);

/* Gives an unpacked container its name, as the user. 0 or -errno. */
int target_rename(const struct user *user, const char *from, const char *to, int timeout_ms);

/* Mounts the root's layers on an opened directory, without setuid and devices. 0 or -errno. */
int overlay_mount(const struct root *root, int target);

bool overlay_is_mounted(const struct root *root);

/* Takes the overlay away, busy or not, wherever it is now. 0, or -errno where it is still there. */
int overlay_unmount(const struct root *root, const struct user *user, int timeout_ms);

#endif
