#include "squashfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

/* Linux, fs/squashfs/squashfs_fs.h, struct squashfs_super_block: little-endian. */
enum { SUPERBLOCK_SIZE = 96, MAJOR_AT = 28, BYTES_USED_AT = 40, READABLE_VERSION = 4 };

static uint64_t number_at(const unsigned char *bytes, int count)
{
	uint64_t number = 0;

	while (count-- > 0)
		number = number << 8 | bytes[count];
	return number;
}

static bool is_zero(const unsigned char *bytes, ssize_t count)
{
	while (count > 0 && bytes[count - 1] == 0)
		count--;
	return count == 0;
}

int squashfs_check(int fd, const struct stat *st)
{
	unsigned char superblock[SUPERBLOCK_SIZE];
	uint64_t bytes_used;
	ssize_t got;

	if (!S_ISREG(st->st_mode))
		return -ENOEXEC;
	got = pread(fd, superblock, sizeof(superblock), 0);
	if (got < 0)
		return -errno;
	/* mksquashfs writes the superblock last. */
	if (is_zero(superblock, got))
		return -ENODATA;
	if (got < 4 || memcmp(superblock, "hsqs", 4) != 0)
		return -ENOEXEC;
	if (got < SUPERBLOCK_SIZE)
		return -ENODATA;
	if (number_at(superblock + MAJOR_AT, 2) != READABLE_VERSION)
		return -ENOEXEC;
	bytes_used = number_at(superblock + BYTES_USED_AT, 8);
	if (bytes_used < SUPERBLOCK_SIZE)
		return -ENOEXEC;
	return bytes_used > (uint64_t)st->st_size ? -ENODATA : 0;
}

const char *squashfs_trouble(int error)
{
	switch (error) {
	case ENOENT:
		return "it is gone; it was there when the job was submitted, or was written wrongly";
	case EACCES:
		return "you may not read it";
	case ENOEXEC:
		return "it is no squashfs file";
	case ENODATA:
		return "it is not complete";
	case ETIMEDOUT:
		return "its file system gives no answer";
	default:
		return strerror(error);
	}
}

int squashfs_check_path(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	int rv;

	if (fd < 0)
		return -errno;
	rv = fstat(fd, &st) < 0 ? -errno : squashfs_check(fd, &st);
	close(fd);
	return rv;
}
