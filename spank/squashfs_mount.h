/*
 * Mounting a .sqsh for one user on one node. Root opens /dev/fuse and mounts, so no setuid helper is needed; squashfuse
 * itself runs as the user: it reads a file that a user may have made, and a fault in it must not give anybody root. The
 * mount has no allow_other: on this node too, an image is for those who may read its file.
 */
#ifndef SLURM_FSX_SQUASHFS_MOUNT_H
#define SLURM_FSX_SQUASHFS_MOUNT_H

#include <stddef.h>
#include <sys/types.h>

#include "child.h"

/*
 * Opens the image as the user would, in a child that is given up after `timeout_ms`, and checks that it is a whole
 * squashfs. A descriptor or -errno; -ENOEXEC for a file that is none, -ENODATA for a part of one, -ETIMEDOUT where the file system does not answer.
 */
int squashfs_open(const struct user *user, const char *path, int timeout_ms);

/*
 * Mounts an opened image at `point` (made if it is missing), read-only, without setuid and devices, and waits until it
 * answers. 0, or -errno with nothing left mounted.
 */
int squashfs_mount(const struct user *user, int image, const char *squashfuse, const char *point, int timeout_ms);

/* Takes the mount away, busy or not, and removes the folder. */
void squashfs_unmount(const char *point);

/* Finds a program in the system's usual folders. Returns `path`, or NULL. */
const char *program_find(const char *name, char *path, size_t size);

#endif
