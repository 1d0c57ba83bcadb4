#include "claims.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SUITES(each) \
	each(ask) each(catalogue) each(child) each(container) each(enroot) each(env_file) each(image) each(index) \
	each(local_copy) each(miss) each(mountinfo) each(name) each(overlay) each(plugin_conf) each(root) each(squashfs)
#define DECLARE(suite) void suite##_tests(void);
#define RUN(suite) run(suite##_tests);

SUITES(DECLARE)

char test_folder[64];

static int failures;

void claim(bool holds, const char *text, const char *file, int line)
{
	if (holds)
		return;
	fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, text);
	failures++;
}

bool same(const char *a, const char *b)
{
	return a != NULL && b != NULL && strcmp(a, b) == 0;
}

const char *in_folder(const char *name)
{
	static char paths[4][256];
	static int next;

	next = (next + 1) % 4;
	snprintf(paths[next], sizeof(paths[next]), "%s/%s", test_folder, name);
	return paths[next];
}

const char *write_bytes(const char *name, const char *data, size_t size, mode_t mode)
{
	const char *path = in_folder(name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	CLAIM(fd >= 0 && write(fd, data, size) == (ssize_t)size && fchmod(fd, mode) == 0);
	if (fd >= 0)
		close(fd);
	return path;
}

const char *write_file(const char *name, const char *text)
{
	return write_bytes(name, text, strlen(text), 0644);
}

const char *write_script(const char *name, const char *text)
{
	char script[512];

	snprintf(script, sizeof(script), "#!/bin/sh\n%s", text);
	return write_bytes(name, script, strlen(script), 0755);
}

long long mtime_of(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? (long long)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec : 0;
}

static void run(void (*suite)(void))
{
	char command[sizeof(test_folder) + 8];

	snprintf(test_folder, sizeof(test_folder), "/tmp/slurm-fsx-core-XXXXXX");
	if (mkdtemp(test_folder) == NULL || chmod(test_folder, 0755) < 0) { /* other users are tried in it */
		CLAIM(!"there is a folder for the suite");
		return;
	}
	suite();
	snprintf(command, sizeof(command), "rm -rf %s", test_folder);
	CLAIM(system(command) == 0);
}

int main(void)
{
	SUITES(RUN)
	printf("core_test: %s\n", failures == 0 ? "all claims hold" : "FAILED");
	return failures == 0 ? 0 : 1;
}
