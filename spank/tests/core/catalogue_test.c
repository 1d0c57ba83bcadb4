#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "catalogue.h"
#include "claims.h"

static void marks_and_caches_lie_in_roots_own_folders(void)
{
	const char *containers = in_folder("shared-images");
	char image[512], where[256];
	struct stat st;

	snprintf(where, sizeof(where), "%s", containers);
	CLAIM(mkdir(where, 0777) == 0);
	snprintf(image, sizeof(image), "%s/a.sqsh", where);
	CLAIM(catalogue_mark_use(where, image, "lab", 12, 5000) == -ENOENT);
	CLAIM(stat(in_folder("shared-images/.slurm-fsx"), &st) < 0);
	write_file("shared-images/a.sqsh", "");
	CLAIM(catalogue_mark_use(where, image, "lab", 12, 5000) == 0 && catalogue_mark_use(where, image, "lab", 12, 5000) == 0);
	CLAIM(stat(in_folder("shared-images/.slurm-fsx/uses/a.sqsh/lab.12"), &st) == 0 && st.st_size == 0);
	CLAIM(catalogue_mark_use(where, image, NULL, 12, 5000) == 0 && catalogue_mark_use(where, image, "../lab", 13, 5000) == 0);
	CLAIM(stat(in_folder("shared-images/.slurm-fsx/uses/a.sqsh/12"), &st) == 0 &&
	      stat(in_folder("shared-images/.slurm-fsx/uses/a.sqsh/13"), &st) == 0);
	CLAIM(catalogue_mark_use(where, "/elsewhere/a.sqsh", "lab", 12, 5000) == -EINVAL);
	snprintf(image, sizeof(image), "%s/sub/a.sqsh", where);
	CLAIM(catalogue_mark_use(where, image, "lab", 12, 5000) == -EINVAL);
	CLAIM(catalogue_make_cache(where, geteuid(), getegid(), 5000) == 0 &&
	      catalogue_make_cache(where, geteuid(), getegid(), 5000) == 0);
	snprintf(image, sizeof(image), "%s/.slurm-fsx/caches/%u", where, geteuid());
	CLAIM(stat(image, &st) == 0 && st.st_uid == geteuid() && (st.st_mode & 07777) == 0700);
	/* A folder that others can write to could be anything by now. */
	CLAIM(chmod(in_folder("shared-images/.slurm-fsx/uses"), 0777) == 0);
	snprintf(image, sizeof(image), "%s/b.sqsh", where);
	write_file("shared-images/b.sqsh", "");
	CLAIM(catalogue_mark_use(where, image, "lab", 12, 5000) == -EPERM);
	CLAIM(rename(in_folder("shared-images/.slurm-fsx"), in_folder("shared-images/kept")) == 0 &&
	      symlink("kept", in_folder("shared-images/.slurm-fsx")) == 0);
	CLAIM(catalogue_make_cache(where, 77, 77, 5000) < 0);
}

void catalogue_tests(void)
{
	marks_and_caches_lie_in_roots_own_folders();
}
