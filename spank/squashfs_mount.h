/*
 * Mounting a .sqsh for one user on one node. Root opens /dev/fuse and mounts, so no setuid helper is needed; squashfuse
 * itself runs as the user: it reads a file that a user may have made, and a fault in it must not give anybody root. The
 * mount is for that user alone: on this node too, an image is for those who may read its file. The layer of an overlay is
 * opened to the kernel by allow_other, and to nobody by the folder that it is mounted in.
 */
#ifndef SLURM_FSX_SQUASHFS_MOUNT_H
#define SLURM_FSX_SQUASHFS_MOUNT_H

#include <stdbool.h>
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
 * answers. 0 with squashfuse's process id where `server` is given, or -errno with nothing left mounted.
 */
int squashfs_mount(const struct user *user, int image, const char *squashfuse, const char *point, bool is_layer,
		   int timeout_ms, pid_t *server);

/* Whether this node can mount at all: squashfuse's path, or NULL without it or without /dev/fuse. */
const char *squashfs_can_mount(char *path, size_t size);

/* Takes the mount away, busy or not, and removes the folder. */
void squashfs_unmount(const char *point);

/* Finds a program in the system's usual folders. Returns `path`, or NULL. */
const char *program_find(const char *name, char *path, size_t size);

#endif
