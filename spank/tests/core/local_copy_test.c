#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "claims.h"
#include "local_copy.h"

static void a_local_copy_counts_only_where_it_is_the_same(void)
{
	/* A superblock alone: version 4, and as many bytes as it has itself. */
	static const char whole[96] = {'h', 's', 'q', 's', [28] = 4, [40] = 96};
	static const char cut[96] = {'h', 's', 'q', 's', [28] = 4, [40] = 97};
	static const struct timespec then[2] = {{.tv_sec = 1000, .tv_nsec = 5}, {.tv_sec = 1000, .tv_nsec = 7}};
	static const struct timespec later[2] = {{.tv_sec = 1000, .tv_nsec = 5}, {.tv_sec = 1000, .tv_nsec = 8}};
	char containers[256], stage[256], path[PATH_MAX];
	struct stat st;
	int source, copy;

	snprintf(containers, sizeof(containers), "%s", in_folder(""));
	snprintf(stage, sizeof(stage), "%s", in_folder("stage"));

	CLAIM(mkdir(stage, 0777) == 0 && mkdir(in_folder("stage/slurm-fsx-images"), 0755) == 0);
	snprintf(path, sizeof(path), "%s", write_bytes("image.sqsh", whole, sizeof(whole), 0644));
	source = open(path, O_RDONLY | O_CLOEXEC);
	CLAIM(source >= 0 && futimens(source, then) == 0);
	CLAIM(local_copy_open(NULL, containers, "", path, source) == -ENOENT);
	CLAIM(local_copy_open(NULL, containers, stage, path, source) == -ENOENT);
	write_bytes("stage/slurm-fsx-images/image.sqsh", whole, sizeof(whole), 0644);
	CLAIM(utimensat(AT_FDCWD, in_folder("stage/slurm-fsx-images/image.sqsh"), later, 0) == 0);
	CLAIM(local_copy_open(NULL, containers, stage, path, source) == -ESTALE);
	CLAIM(utimensat(AT_FDCWD, in_folder("stage/slurm-fsx-images/image.sqsh"), then, 0) == 0);
	copy = local_copy_open(NULL, containers, stage, path, source);
	CLAIM(copy >= 0 && fstat(copy, &st) == 0 && st.st_atim.tv_sec > 1000 && st.st_mtim.tv_nsec == 7);
	if (copy >= 0)
		close(copy);
	write_bytes("stage/slurm-fsx-images/image.sqsh", cut, sizeof(cut), 0644);
	CLAIM(utimensat(AT_FDCWD, in_folder("stage/slurm-fsx-images/image.sqsh"), then, 0) == 0);
	CLAIM(local_copy_open(NULL, containers, stage, path, source) == -ENODATA);
	/* A file of that name elsewhere is another image. */
	CLAIM(local_copy_open(NULL, "/elsewhere", stage, path, source) == -ENOENT);
	CLAIM(chmod(in_folder("stage/slurm-fsx-images"), 0777) == 0);
	CLAIM(local_copy_open(NULL, containers, stage, path, source) == -EPERM);
	close(source);
}

void local_copy_tests(void)
{
	a_local_copy_counts_only_where_it_is_the_same();
}
