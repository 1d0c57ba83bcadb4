#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "claims.h"
#include "miss.h"

static void misses_are_counted_and_no_link_is_followed(void)
{
	struct stat st;

	for (int i = 0; i < 3; i++)
		CLAIM(miss_count(test_folder) == 0);
	CLAIM(stat(in_folder("resolution-misses"), &st) == 0 && st.st_size == 3);
	CLAIM(unlink(in_folder("resolution-misses")) == 0);
	CLAIM(symlink("victim", in_folder("resolution-misses")) == 0);
	CLAIM(miss_count(test_folder) == -ELOOP && access(in_folder("victim"), F_OK) < 0);
	CLAIM(unlink(in_folder("resolution-misses")) == 0);
	CLAIM(mkfifo(in_folder("resolution-misses"), 0600) == 0);
	CLAIM(miss_count(test_folder) == -ENXIO); /* nobody reads it: never a hang */
	CLAIM(unlink(in_folder("resolution-misses")) == 0);
	CLAIM(miss_count(in_folder("nowhere")) == -ENOENT);
}

void miss_tests(void)
{
	misses_are_counted_and_no_link_is_followed();
}
