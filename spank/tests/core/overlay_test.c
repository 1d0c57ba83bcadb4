#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "child.h"
#include "claims.h"
#include "overlay.h"

static void a_container_lies_in_its_users_own_empty_directory(void)
{
	struct user user = {.uid = 65534, .gid = 65534};
	bool is_root = geteuid() == 0;
	char path[PATH_MAX];
	int fd;

	if (!is_root)
		user = (struct user){.uid = geteuid(), .gid = getegid()};
	CLAIM(mkdir(in_folder("data"), 0755) == 0 && chown(in_folder("data"), user.uid, user.gid) == 0);
	fd = target_open(&user, in_folder("data"), "pyxis_a", 5000, path);
	CLAIM(fd >= 0 && same(path, in_folder("data/pyxis_a")));
	if (fd >= 0)
		close(fd);
	fd = target_open(&user, in_folder("data"), "pyxis_a", 5000, path);
	CLAIM(fd >= 0);
	if (fd >= 0)
		close(fd);
	write_file("data/pyxis_a/file", "");
	CLAIM(target_open(&user, in_folder("data"), "pyxis_a", 5000, path) == -ENOTEMPTY);
	CLAIM(symlink("/", in_folder("data/pyxis_link")) == 0);
	CLAIM(target_open(&user, in_folder("data"), "pyxis_link", 5000, path) < 0);
	CLAIM(symlink("/etc", in_folder("data/elsewhere")) == 0);
	if (is_root) {
		CLAIM(target_open(&user, in_folder("data/elsewhere"), "pyxis_a", 5000, path) == -EACCES);
		CLAIM(mkdir(in_folder("data/roots"), 0755) == 0);
		CLAIM(target_open(&user, in_folder("data"), "roots", 5000, path) == -EPERM);
	}
	CLAIM(target_open(&user, in_folder("none"), "pyxis_a", 5000, path) == -ENOENT);
}

void overlay_tests(void)
{
	a_container_lies_in_its_users_own_empty_directory();
}
