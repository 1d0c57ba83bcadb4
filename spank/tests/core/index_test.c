#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "claims.h"
#include "index.h"

static int look_up(const char *header, const char *lines, const char *name, char *path)
{
	const char *containers = in_folder("containers");
	char text[4096];
	struct index_query query = {.containers = containers, .policy = "p1", .name = name, .owner = geteuid()};

	mkdir(containers, 0755);
	snprintf(text, sizeof(text), header, mtime_of(containers));
	strncat(text, lines, sizeof(text) - strlen(text) - 1);
	query.index = write_file("index", text);
	return index_look_up(&query, path, 64);
}

static void the_index_finds_each_name_and_no_other(void)
{
	static const char header[] = "# slurm-fsx index 1\n# folder=%lld policy=p1 complete=1 ask=0 new=2\n# more\n";
	static const char lines[] = "-x\t/i/dash\nB\t/i/B\na\t/i/a\na-b\t/i/a-b\nab\t/i/ab\nz\t/i/z\n\xc3\xa9\t/i/e\n";
	static const char *const names[] = {"-x", "B", "a", "a-b", "ab", "z", "\xc3\xa9"};
	static const char *const paths[] = {"/i/dash", "/i/B", "/i/a", "/i/a-b", "/i/ab", "/i/z", "/i/e"};
	char path[64];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		CLAIM(look_up(header, lines, names[i], path) == 0 && same(path, paths[i]));
	CLAIM(look_up(header, lines, "", path) == -ENOENT);
	CLAIM(look_up(header, lines, "a-", path) == -ENOENT);
	CLAIM(look_up(header, lines, "zz", path) == -ENOENT);
	CLAIM(look_up(header, lines, "# more", path) == -ENOENT);
	CLAIM(look_up(header, "", "a", path) == -ENOENT);
	CLAIM(look_up(header, "a\t/last/line/without/its/end", "a", path) == 0 && same(path, "/last/line/without/its/end"));
	CLAIM(look_up(header, "a\trelative\n", "a", path) == -EINVAL);
	CLAIM(look_up(header, "a\n", "a", path) == -EINVAL);
	CLAIM(look_up(header, "a\t/longer/than/what/the/caller/has/room/for/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n", "a", path) == -EINVAL);
}

static void a_stale_or_foreign_index_is_not_believed(void)
{
	static const char *const headers[] = {
		"", "# slurm-fsx index 2\n", "# slurm-fsx index 1\n", "# slurm-fsx index 1\na\t/i/a\n",
		"# slurm-fsx index 1\n# folder=1 policy=p1 complete=1 ask=0\n",
		"# slurm-fsx index 1\n# folder=%lld policy=p2 complete=1 ask=0\n",
		"# slurm-fsx index 1\n# folder=%lld policy=p1 complete=0 ask=0\n",
		"# slurm-fsx index 1\n# folder=%lld policy=p1 complete=1 ask=1\n",
		"# slurm-fsx index 1\n# folder=%lld policy=p1 complete=1\n",
		"# slurm-fsx index 1\n# folder=%lldx policy=p1 complete=1 ask=0\n",
	};
	char path[64];

	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++)
		CLAIM(look_up(headers[i], "a\t/i/a\n", "a", path) == -ESTALE);
	CLAIM(chmod(in_folder("index"), 0666) == 0);
	{
		struct index_query query = {in_folder("index"), in_folder("containers"), "p1", "a", geteuid()};

		CLAIM(index_look_up(&query, path, sizeof(path)) == -EPERM);
		query.index = in_folder("none");
		CLAIM(index_look_up(&query, path, sizeof(path)) == -ENOENT);
	}
}

void index_tests(void)
{
	the_index_finds_each_name_and_no_other();
	a_stale_or_foreign_index_is_not_believed();
}
