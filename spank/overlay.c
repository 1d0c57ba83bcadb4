#include "overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "mountinfo.h"
#include "name.h"

enum { MOST_MOUNTS = 8 };

struct place {
	const char *folder;
	const char *name;
	const char *to;
};

static int answer_error(int out, int error)
{
	unsigned char byte = (unsigned char)error;

	return write(out, &byte, 1) == 1 ? 0 : 1;
}

/* Whether an opened directory holds nothing. opendir() would call malloc(), which a forked child may not. */
static bool is_empty(int fd)
{
	char entries[1024];
	long got = syscall(SYS_getdents64, fd, entries, sizeof(entries));

	for (long at = 0; at < got;) {
		unsigned short length;
		const char *name = entries + at + 19;

		memcpy(&length, entries + at + 16, sizeof(length));
		if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
			return false;
		at += length;
	}
	return got >= 0;
}

/* As the user, so a link leads to nothing that is not the user's to open; the last name may not even be one. */
static int open_target(void *context, int out)
{
	const struct place *place = context;
	int folder, fd;

	out = child_keep_only(out);
	if (out < 0)
		return 1;
	umask(022);
	folder = open(place->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0 || (mkdirat(folder, place->name, 0755) < 0 && errno != EEXIST))
		return answer_error(out, errno);
	fd = openat(folder, place->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return answer_error(out, errno);
	if (!is_empty(fd))
		return answer_error(out, ENOTEMPTY);
	return child_send_fd(out, fd) == 0 ? 0 : 1;
}

/* What a child that answers with one byte had to say. */
static int run(const struct user *user, child_work *work, struct place *place, int timeout_ms, int *fd)
{
	char byte[2] = "";
	struct child_answer answer = {.buffer = byte, .room = sizeof(byte)};
	int rv = child_run(user, work, place, timeout_ms, &answer);

	if (fd != NULL)
		*fd = answer.fd;
	else if (answer.fd >= 0)
		close(answer.fd);
	if (rv < 0)
		return rv;
	if (answer.fd >= 0)
		return 0;
	return answer.length == 1 ? -(int)(unsigned char)byte[0] : -EIO;
}

int target_open(const struct user *user, const char *folder, const char *container, int timeout_ms, char path[PATH_MAX])
{
	struct place place = {.folder = folder, .name = container};
	char link[64];
	struct stat st;
	ssize_t length;
	int fd = -1;
	int rv = run(user, open_target, &place, timeout_ms, &fd);

	if (rv == 0 && (fstat(fd, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != user->uid))
		rv = -EPERM;
	if (rv == 0) {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		length = readlink(link, path, PATH_MAX - 1);
		path[length > 0 ? length : 0] = '\0';
		if (!path_is_sane(path))
			rv = -EINVAL;
	}
	if (rv < 0) {
		if (fd >= 0)
			close(fd);
		return rv;
	}
	return fd;
}

static int remove_target(void *context, int out)
{
	const struct place *place = context;

	out = child_keep_only(out);
	if (out < 0)
		return 1;
	return answer_error(out, rmdir(place->name) < 0 ? errno : 0);
}

void target_remove(const struct user *user, const char *path, int timeout_ms)
{
	struct place place = {.name = path};

	run(user, remove_target, &place, timeout_ms, NULL);
}

static int rename_target(void *context, int out)
{
	const struct place *place = context;

	out = child_keep_only(out);
	if (out < 0)
		return 1;
	return answer_error(out, rename(place->name, place->to) < 0 ? errno : 0);
}

int target_rename(const struct user *user, const char *from, const char *to, int timeout_ms)
{
	struct place place = {.name = from, .to = to};

	return run(user, rename_target, &place, timeout_ms, NULL);
}

int overlay_mount(const struct root *root, int target)
{
	char options[3 * PATH_MAX + 96], point[64];

	/* An image may carry an overlay's own attributes: they must not lead into other files of the layers. */
	snprintf(options, sizeof(options), "lowerdir=%s,upperdir=%s,workdir=%s,redirect_dir=nofollow,metacopy=off", root->image,
		 root->upper, root->work);
	snprintf(point, sizeof(point), "/proc/self/fd/%d", target);
	/* Its source tells it from every other mount: nobody but root mounts an overlay in the node's own namespace. */
	return mount(root->folder, point, "overlay", MS_NOSUID | MS_NODEV, options) < 0 ? -errno : 0;
}

/* Finds the overlay, by mountinfo. 0 with its mount point and device, or -ENOENT. */
static int find(const struct root *root, char point[PATH_MAX], dev_t *device)
{
	char *text = NULL, *rest, *line;
	int rv = mountinfo_read(&text);

	if (rv < 0)
		return rv;
	rv = -ENOENT;
	rest = text;
	while (rv == -ENOENT && (line = strsep(&rest, "\n")) != NULL) {
		const char *tail = strstr(line, " - overlay ");
		unsigned int major, minor;
		size_t length = strlen(root->folder);

		if (tail == NULL)
			continue;
		tail += strlen(" - overlay ");
		if (strncmp(tail, root->folder, length) != 0 || tail[length] != ' ' ||
		    sscanf(line, "%*d %*d %u:%u", &major, &minor) != 2)
			continue;
		mountinfo_point(line, point);
		*device = makedev(major, minor);
		rv = 0;
	}
	free(text);
	return rv;
}

bool overlay_is_mounted(const struct root *root)
{
	char point[PATH_MAX];
	dev_t device;

	return find(root, point, &device) == 0;
}

struct unmounting {
	const char *point;
	dev_t device;
	const struct user *user;
};

/* In a child: a file system of the user's on the way there may hang. */
static int unmount(void *context, int out)
{
	const struct unmounting *unmounting = context;
	char self[64];
	struct stat st;
	int fd;

	out = child_keep_only(out);
	if (out < 0)
		return 1;
	/* Walks with the user's rights, and acts only on the file system that was looked for. */
	setfsgid(unmounting->user->gid);
	setfsuid(unmounting->user->uid);
	fd = open(unmounting->point, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	setfsuid(0);
	setfsgid(0);
	/* A user may have closed the way there; root's own rights do, since only that one file system is acted on. */
	if (fd < 0)
		fd = open(unmounting->point, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return answer_error(out, errno);
	if (st.st_dev != unmounting->device)
		return answer_error(out, ESTALE);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	return answer_error(out, umount2(self, MNT_DETACH) < 0 ? errno : 0);
}

int overlay_unmount(const struct root *root, const struct user *user, int timeout_ms)
{
	char point[PATH_MAX], byte[2] = "";
	struct unmounting unmounting = {.point = point, .user = user};
	int rv = 0;

	for (int i = 0; i < MOST_MOUNTS && find(root, point, &unmounting.device) == 0; i++) {
		struct child_answer answer = {.buffer = byte, .room = sizeof(byte)};

		rv = child_run(NULL, unmount, &unmounting, timeout_ms, &answer);
		if (rv == -ETIMEDOUT)
			return rv;
		rv = rv == 0 && answer.length == 1 ? -(int)(unsigned char)byte[0] : -EIO;
	}
	return overlay_is_mounted(root) ? (rv < 0 ? rv : -EBUSY) : 0;
}
