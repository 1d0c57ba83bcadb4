/* Files that root believes: regular, owned by root, writable by their owner alone. */
#ifndef SLURM_FSX_TRUSTED_FILE_H
#define SLURM_FSX_TRUSTED_FILE_H

#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

/*
 * Opens `path` for reading and fills `st`. Besides root, `owner` may own it (0 = root alone).
 * Gives a descriptor, or -errno; -EPERM where somebody else could have written it, -ELOOP for a symbolic link.
 */
int trusted_file_open(const char *path, uid_t owner, struct stat *st);

/* Reads a whole file of at most `limit` bytes, NUL-terminated. 0 and *text (to free) on success, -errno otherwise. */
int trusted_file_read(const char *path, uid_t owner, size_t limit, char **text, size_t *size);

/* Reads an open file to its end, at most `limit` bytes; /proc files have no size, so none is believed. */
int file_read_all(int fd, size_t limit, char **text, size_t *size);

#endif
