#include "catalogue.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "child.h"
#include "name.h"

enum { MOST_PARTS = 3 };

struct task {
	const char *containers;
	const char *parts[MOST_PARTS]; /* folders on the way, each root's; NULL ends them */
	char name[NAME_MAX + 1];
	char staged[NAME_MAX + 1]; /* of a folder to make; "" = a file is made */
	uid_t uid;
	gid_t gid;
};

/* Opens a folder that nobody but root can change, made if it is missing. A descriptor or -errno. */
static int enter(int folder, const char *name)
{
	struct stat st;
	int fd;

	if (mkdirat(folder, name, 0755) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || st.st_uid != geteuid() || (st.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
		close(fd);
		return -EPERM;
	}
	return fd;
}

/* Under another name first: the folder appears with its owner, and is never root's in between. */
static int make_cache(const struct task *task, int folder)
{
	struct stat st;

	if (fstatat(folder, task->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
	if (mkdirat(folder, task->staged, 0700) < 0 && errno != EEXIST)
		return -errno;
	if (fchownat(folder, task->staged, task->uid, task->gid, AT_SYMLINK_NOFOLLOW) < 0 ||
	    renameat(folder, task->staged, folder, task->name) < 0) {
		int rv = -errno;

		unlinkat(folder, task->staged, AT_REMOVEDIR);
		/* Another node was faster, and the user's job has put something there already. */
		return rv == -ENOTEMPTY || rv == -EEXIST ? 0 : rv;
	}
	return 0;
}

/* Its time is that of the last step's start: a mark of another cluster counts only for a while. */
static int leave_mark(const struct task *task, int folder)
{
	int fd = openat(folder, task->name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);

	if (fd < 0 || futimens(fd, NULL) < 0)
		return -errno;
	close(fd);
	return 0;
}

static int work(void *context, int out)
{
	const struct task *task = context;
	int folder, rv = 0;

	out = child_keep_only(out);
	if (out < 0)
		return EIO;
	umask(022);
	folder = open(task->containers, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0)
		return errno;
	/* Users choose the name: nothing is made for one that is no image's. */
	if (task->staged[0] == '\0' && faccessat(folder, task->parts[MOST_PARTS - 1], F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return errno;
	for (size_t i = 0; i < MOST_PARTS && task->parts[i] != NULL; i++) {
		folder = enter(folder, task->parts[i]);
		if (folder < 0)
			return -folder;
	}
	if (task->staged[0] != '\0')
		rv = make_cache(task, folder);
	else
		rv = leave_mark(task, folder);
	return -rv;
}

static int run(struct task *task, int timeout_ms)
{
	char byte[2] = "";
	struct child_answer answer = {.buffer = byte, .room = sizeof(byte)};
	int rv = child_run(NULL, work, task, timeout_ms, &answer);

	return rv < 0 ? rv : -answer.exit_code;
}

int catalogue_mark_use(const char *containers, const char *image, const char *cluster, uint32_t job, int timeout_ms)
{
	const char *file = path_file_in(image, containers);
	struct task task = {.containers = containers, .parts = {".slurm-fsx", "uses", file}};
	size_t length = cluster != NULL ? strlen(cluster) : 0;

	if (file == NULL)
		return -EINVAL;
	/* Slurm's name for it, by way of the step's environment: the user may have put anything there. */
	if (length == 0 || length > 64 ||
	    strspn(cluster, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") != length)
		snprintf(task.name, sizeof(task.name), "%u", job);
	else
		snprintf(task.name, sizeof(task.name), "%s.%u", cluster, job);
	return run(&task, timeout_ms);
}

int catalogue_make_cache(const char *containers, uid_t uid, gid_t gid, int timeout_ms)
{
	struct task task = {.containers = containers, .parts = {".slurm-fsx", "caches"}, .uid = uid, .gid = gid};
	char host[128] = "";

	gethostname(host, sizeof(host) - 1);
	snprintf(task.name, sizeof(task.name), "%u", uid);
	snprintf(task.staged, sizeof(task.staged), ".%u.%s.%d", uid, host, getpid());
	return run(&task, timeout_ms);
}
