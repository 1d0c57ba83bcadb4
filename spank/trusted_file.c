#include "trusted_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

int trusted_file_open(const char *path, uid_t owner, struct stat *st)
{
	int rv = 0;
	/* O_NONBLOCK: a FIFO that somebody left here must not hang us. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (fd < 0)
		return -errno;
	if (fstat(fd, st) < 0)
		rv = -errno;
	else if (!S_ISREG(st->st_mode) || (st->st_uid != 0 && st->st_uid != owner) ||
		 (st->st_mode & (S_IWGRP | S_IWOTH)) != 0)
		rv = -EPERM;
	if (rv < 0) {
		close(fd);
		return rv;
	}
	return fd;
}

int file_read_all(int fd, size_t limit, char **text, size_t *size)
{
	size_t room = 4096, used = 0;
	char *buffer = malloc(room + 1);
	int rv = 0;

	if (buffer == NULL)
		return -ENOMEM;
	for (;;) {
		ssize_t got;

		if (used == room) {
			char *larger = realloc(buffer, 2 * room + 1);

			if (larger == NULL) {
				rv = -ENOMEM;
				goto fail;
			}
			buffer = larger;
			room *= 2;
		}
		got = read(fd, buffer + used, room - used);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			rv = -errno;
			goto fail;
		}
		if (got == 0)
			break;
		used += (size_t)got;
		if (used > limit) {
			rv = -EFBIG;
			goto fail;
		}
	}
	buffer[used] = '\0';
	*text = buffer;
	*size = used;
	return 0;

fail:
	free(buffer);
	return rv;
}

int trusted_file_read(const char *path, uid_t owner, size_t limit, char **text, size_t *size)
{
	struct stat st;
	int fd = trusted_file_open(path, owner, &st);
	int rv;

	if (fd < 0)
		return fd;
	rv = file_read_all(fd, limit, text, size);
	close(fd);
	return rv;
}
