#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "child.h"
#include "claims.h"
#include "squashfs.h"
#include "squashfs_mount.h"

static void only_a_squashfs_that_the_user_may_read_is_opened(void)
{
	struct user user = {.uid = 65534, .gid = 65534};
	const struct user *nobody = geteuid() == 0 ? &user : NULL;
	const char image[128] = {[0] = 'h', 's', 'q', 's', [28] = 4, [40] = (char)128};
	int fd;

	fd = squashfs_open(nobody, write_bytes("good.sqsh", image, sizeof(image), 0644), 5000);
	CLAIM(fd >= 0);
	if (fd >= 0)
		close(fd);
	CLAIM(squashfs_open(nobody, write_file("bad.sqsh", "elf"), 5000) == -ENOEXEC);
	CLAIM(squashfs_open(nobody, write_bytes("part.sqsh", image, sizeof(image) - 1, 0644), 5000) == -ENODATA);
	CLAIM(squashfs_open(nobody, test_folder, 5000) == -ENOEXEC);
	CLAIM(squashfs_open(nobody, in_folder("none"), 5000) == -ENOENT);
	CLAIM(squashfs_check_path(in_folder("good.sqsh")) == 0);
	CLAIM(squashfs_check_path(in_folder("part.sqsh")) == -ENODATA);
	CLAIM(squashfs_check_path(in_folder("none")) == -ENOENT);
	CLAIM(symlink("good.sqsh", in_folder("link.sqsh")) == 0);
	CLAIM(squashfs_check_path(in_folder("link.sqsh")) == -ELOOP);
	CLAIM(mkfifo(in_folder("fifo.sqsh"), 0644) == 0 && squashfs_check_path(in_folder("fifo.sqsh")) == -ENOEXEC);
	if (nobody != NULL)
		CLAIM(squashfs_open(nobody, write_bytes("private.sqsh", "hsqs", 4, 0600), 5000) == -EACCES);
}

void squashfs_tests(void)
{
	only_a_squashfs_that_the_user_may_read_is_opened();
}
