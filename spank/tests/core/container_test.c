#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "claims.h"
#include "container.h"
#include "runtime_bwrap.h"
#include "runtime_enroot.h"

static bool holds(const struct words *words, const char *first, const char *second, const char *third)
{
	for (size_t i = 0; i + 2 < words->count; i++)
		if (same(words->items[i], first) && same(words->items[i + 1], second) && (third == NULL || same(words->items[i + 2], third)))
			return true;
	return false;
}

static void container_mounts_are_pairs_of_absolute_paths(void)
{
	static const char *const wrong[] = {"", "a:/b", "/a:b", "/a:", ":/b", "/a:/b,", "/a:/../b", "/a:/", "/a://", "/a:/b/.."};
	struct container_mounts mounts;
	char *bad = NULL;

	CLAIM(container_mounts_parse("/a:/b:ro,/c,/d:/e:rw+rprivate,/f:/g:rprivate+ro", &mounts, &bad) == 0 && mounts.count == 4);
	CLAIM(same(mounts.items[0].source, "/a") && same(mounts.items[0].target, "/b") && mounts.items[0].read_only);
	CLAIM(same(mounts.items[1].target, "/c") && !mounts.items[1].read_only && !mounts.items[2].read_only && mounts.items[3].read_only);
	container_mounts_free(&mounts);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		CLAIM(container_mounts_parse(wrong[i], &mounts, &bad) == -EINVAL && bad != NULL);
		free(bad);
	}
}

static void bwrap_makes_room_for_mount_points_that_the_image_lacks(void)
{
	struct container_mounts mounts = {0};
	struct container container = {.image = "/i.sqsh", .fsx_root = "/fsx", .home = "/home/u", .work_folder = "/usr/nowhere",
				      .mounts = &mounts};
	struct words words = {0};
	char root_path[256], home_other[300];
	int root;

	snprintf(root_path, sizeof(root_path), "%s", in_folder("image2"));
	snprintf(home_other, sizeof(home_other), "%s/home/other", root_path);
	CLAIM(mkdir(root_path, 0755) == 0);
	root = open(root_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	CLAIM(mkdirat(root, "home", 0755) == 0 && mkdirat(root, "home/other", 0755) == 0 && mkdirat(root, "usr", 0755) == 0 &&
	      mkdirat(root, "proc", 0755) == 0 && symlinkat("usr/bin", root, "bin") == 0);
	container.root = root_path;
	CLAIM(bwrap_words(&container, "/usr/bin/bwrap", root, &words) == 0);
	CLAIM(same(words.items[0], "/usr/bin/bwrap"));
	CLAIM(holds(&words, "--dir", "/home", NULL) && holds(&words, "--ro-bind", home_other, "/home/other"));
	CLAIM(holds(&words, "--symlink", "usr/bin", "/bin") && holds(&words, "--bind-try", "/fsx", "/fsx"));
	CLAIM(holds(&words, "--bind-try", "/home/u", "/home/u") && holds(&words, "--bind", "/proc", "/proc"));
	CLAIM(same(words.items[words.count - 2], "--chdir") && same(words.items[words.count - 1], "/"));
	words_free(&words);
	CLAIM(enroot_words(&container, "/usr/bin/enroot", &words) == 0 && same(words.items[1], "start"));
	words_free(&words);
	close(root);
}

void container_tests(void)
{
	container_mounts_are_pairs_of_absolute_paths();
	bwrap_makes_room_for_mount_points_that_the_image_lacks();
}
