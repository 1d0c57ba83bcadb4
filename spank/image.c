#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "name.h"
#include "trusted_file.h"

/* The kernel's own declaration, which older C libraries do not carry. */
struct how {
	uint64_t flags;
	uint64_t mode;
	uint64_t resolve;
};
enum { RESOLVE_INSIDE = 0x10 }; /* RESOLVE_IN_ROOT of <linux/openat2.h> */

enum { ENVIRONMENT_LIMIT = 1024 * 1024 };

static const char *const library_folders[] = {
	"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64", "/usr/local/cuda/lib64",
};
static const char *const subfolders[] = {"", "/x86_64-linux-gnu", "/aarch64-linux-gnu"};

int image_open(int root, const char *path, int flags)
{
	int fd = -1;

	while (*path == '/')
		path++;
	if (*path == '\0')
		path = ".";
#ifdef SYS_openat2
	struct how how = {.flags = (uint64_t)(flags | O_CLOEXEC), .resolve = RESOLVE_INSIDE};

	fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
	if (fd >= 0 || (errno != ENOSYS && errno != EPERM))
		return fd >= 0 ? fd : -errno;
#endif
	fd = openat(root, path, flags | O_CLOEXEC);
	return fd >= 0 ? fd : -errno;
}

enum answer { NO, YES, NO_FOLDER };

static enum answer folder_has_nccl(int root, const char *folder)
{
	struct stat st;
	bool has;
	int fd = image_open(root, folder, O_PATH | O_DIRECTORY);

	if (fd < 0)
		return NO_FOLDER;
	/* The names alone count: following them could lead to the shared file system. */
	has = fstatat(fd, "libnccl.so.2", &st, AT_SYMLINK_NOFOLLOW) == 0 ||
	      fstatat(fd, "libnccl.so", &st, AT_SYMLINK_NOFOLLOW) == 0;
	close(fd);
	return has ? YES : NO;
}

bool image_has_nccl(int root, const char *ld_library_path, const char *fsx_root)
{
	char folder[PATH_MAX];

	for (size_t i = 0; i < sizeof(library_folders) / sizeof(library_folders[0]); i++)
		for (size_t j = 0; j < sizeof(subfolders) / sizeof(subfolders[0]); j++) {
			enum answer answer;

			snprintf(folder, sizeof(folder), "%s%s", library_folders[i], subfolders[j]);
			answer = folder_has_nccl(root, folder);
			if (answer == YES)
				return true;
			if (answer == NO_FOLDER && j == 0)
				break;
		}
	while (ld_library_path != NULL && *ld_library_path != '\0') {
		size_t length = strcspn(ld_library_path, ":");

		if (length > 0 && length < sizeof(folder) && ld_library_path[0] == '/') {
			memcpy(folder, ld_library_path, length);
			folder[length] = '\0';
			if (!path_is_below(folder, fsx_root) && folder_has_nccl(root, folder) == YES)
				return true;
		}
		ld_library_path += length;
		ld_library_path += *ld_library_path == ':';
	}
	return false;
}

int image_read_environment(int root, char **text)
{
	size_t size = 0;
	struct stat st;
	int rv;
	int fd = image_open(root, "/etc/environment", O_RDONLY | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		rv = -errno;
	else
		rv = S_ISREG(st.st_mode) ? file_read_all(fd, ENVIRONMENT_LIMIT, text, &size) : -EINVAL;
	close(fd);
	return rv;
}
