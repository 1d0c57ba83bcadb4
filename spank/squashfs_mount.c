#include "squashfs_mount.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "squashfs.h"

#ifndef UMOUNT_NOFOLLOW
#define UMOUNT_NOFOLLOW 8
#endif

/* Answers with the descriptor, or with an error's number as one byte. */
static int open_image(void *context, int out)
{
	const char *path = context;
	struct stat st;
	unsigned char error = 0;
	int fd;

	out = child_keep_only(out);
	if (out < 0)
		return 1;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 || fstat(fd, &st) < 0)
		error = (unsigned char)errno;
	else
		error = (unsigned char)-squashfs_check(fd, &st);
	if (error == 0)
		return child_send_fd(out, fd) == 0 ? 0 : 1;
	return write(out, &error, 1) == 1 ? 0 : 1;
}

int squashfs_open(const struct user *user, const char *path, int timeout_ms)
{
	char byte[2] = "";
	struct child_answer answer = {.buffer = byte, .room = sizeof(byte)};
	int rv = child_run(user, open_image, (void *)path, timeout_ms, &answer);

	if (rv == 0 && answer.fd >= 0)
		return answer.fd;
	if (answer.fd >= 0)
		close(answer.fd);
	if (rv < 0)
		return rv;
	return answer.length == 1 ? -(int)(unsigned char)byte[0] : -EIO;
}

const char *program_find(const char *name, char *path, size_t size)
{
	static const char *const folders[] = {"/usr/local/bin", "/usr/bin", "/bin"};

	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
		snprintf(path, size, "%s/%s", folders[i], name);
		if (access(path, X_OK) == 0)
			return path;
	}
	return NULL;
}

/* Becomes squashfuse, which serves the mount on `fuse` until it is unmounted. Only async-signal-safe calls. */
static void serve(const struct user *user, int image, int fuse, char *const argv[])
{
	char *environment[] = {"PATH=/usr/bin:/bin", NULL};
	int null = open("/dev/null", O_RDWR);
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* A group of its own: signals to the step are not for the file system under it. */
	setpgid(0, 0);
	/* Up out of the way first, then to the numbers that argv names; dup2 clears close-on-exec. */
	image = fcntl(image, F_DUPFD, 10);
	fuse = fcntl(fuse, F_DUPFD, 10);
	if (null < 0 || image < 0 || fuse < 0 || chdir("/") < 0 || become(user) < 0)
		_exit(126);
	for (int fd = 0; fd < 3; fd++)
		dup2(null, fd);
	dup2(image, 3);
	dup2(fuse, 4);
	close_from(5);
	execve(argv[0], argv, environment);
	_exit(127);
}

/* Waits in the kernel until squashfuse answers, or has ended. */
static int look(void *context, int out)
{
	unsigned char error = 0;
	int fd;

	out = child_keep_only(out);
	if (out < 0)
		return 1;
	fd = open(context, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		error = (unsigned char)errno;
	return write(out, &error, 1) == 1 ? 0 : 1;
}

int squashfs_mount(const struct user *user, int image, const char *squashfuse, const char *point, int timeout_ms)
{
	char data[128], owner[64], byte[2] = "";
	char *argv[] = {(char *)squashfuse, "-f", "-o", owner, "/proc/self/fd/3", "/dev/fd/4", NULL};
	struct child_answer answer = {.buffer = byte, .room = sizeof(byte)};
	int fuse = -1;
	int rv = 0;
	pid_t pid;

	if (mkdir(point, 0755) < 0 && errno != EEXIST)
		return -errno;
	fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (fuse < 0) {
		rv = -errno;
		goto done;
	}
	snprintf(data, sizeof(data), "fd=%d,rootmode=40000,user_id=%u,group_id=%u", fuse, user->uid, user->gid);
	snprintf(owner, sizeof(owner), "ro,uid=%u,gid=%u", user->uid, user->gid);
	if (mount("squashfuse", point, "fuse.squashfuse", MS_RDONLY | MS_NOSUID | MS_NODEV, data) < 0) {
		rv = -errno;
		goto done;
	}
	/* Two forks: squashfuse lives with init, so that slurmstepd neither waits for it nor counts it as a task. */
	pid = fork();
	if (pid < 0) {
		rv = -errno;
		goto done;
	}
	if (pid == 0) {
		pid = fork();
		if (pid == 0)
			serve(user, image, fuse, argv);
		_exit(pid < 0 ? 1 : 0);
	}
	waitpid(pid, NULL, 0);
	/* Once ours is closed, the end of squashfuse ends the mount: whoever waits on it gets an error, no hang. */
	close(fuse);
	fuse = -1;
	rv = child_run(user, look, (void *)point, timeout_ms, &answer);
	if (rv == 0 && answer.length == 1)
		rv = -(int)(unsigned char)byte[0];
	else if (rv == 0)
		rv = -EIO;
done:
	if (fuse >= 0)
		close(fuse);
	if (rv < 0)
		squashfs_unmount(point);
	return rv;
}

void squashfs_unmount(const char *point)
{
	/* Lazily: a mount that does not answer must not hold slurmstepd. */
	umount2(point, MNT_DETACH | UMOUNT_NOFOLLOW);
	rmdir(point);
}
