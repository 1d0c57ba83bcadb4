#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "claims.h"
#include "enroot.h"

static void enroot_gets_what_pyxis_gives_it(void)
{
	char *own[] = {"PATH=/own", "HOME=/own", "SLURM_CONF=/own", "ENROOT_DATA_PATH=/own", NULL};
	char *theirs[] = {"PATH=/theirs", "HOME=/theirs", "ENROOT_DATA_PATH=/theirs", "ENROOT_CONFIG_PATH=/theirs",
			  "SLURM_JOB_ID=1", NULL};
	struct words words = {0};
	char said[64] = "", path[PATH_MAX];
	const char *program;

	enroot_environment(own, theirs, &words);
	CLAIM(words.count == 5 && same(words.items[0], "PATH=/own") && same(words.items[1], "ENROOT_DATA_PATH=/own"));
	CLAIM(same(words.items[2], "HOME=/theirs") && same(words.items[4], "SLURM_JOB_ID=1"));
	CLAIM(mkdir(in_folder("bin"), 0755) == 0);
	program = write_script("bin/enroot", "ENROOT_DATA_PATH=/data/$HOME\n. \"$ENROOT_LIBRARY_PATH/common.sh\"\nexit 9\n");
	snprintf(path, sizeof(path), "none:%s/none:%s/bin", test_folder, test_folder);
	{
		char found[PATH_MAX];

		CLAIM(enroot_find(path, found) != NULL && same(found, program));
		CLAIM(enroot_find("/none", found) == NULL);
	}
	CLAIM(enroot_data_path(NULL, program, &words, test_folder, 5000, path) == 0 && same(path, "/data//theirs"));
	write_script("bin/enroot", "echo first; echo \"the last\tword\" >&2; exit 1\n");
	CLAIM(enroot_data_path(NULL, program, &words, test_folder, 5000, path) == -EIO);
	CLAIM(enroot_create(NULL, program, &words, "a", "/i", 5000, said, sizeof(said)) == -EIO && same(said, "the last?word"));
	write_script("bin/enroot", "/bin/sleep 100\n");
	CLAIM(enroot_create(NULL, program, &words, "a", "/i", 50, said, sizeof(said)) == -ETIMEDOUT);
	words_free(&words);
}

void enroot_tests(void)
{
	enroot_gets_what_pyxis_gives_it();
}
