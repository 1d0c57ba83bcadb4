#include "squashfs_mount.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/capability.h>

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

static void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	/* Best effort: a node without this file has nothing to leave. */
	if (fd >= 0) {
		if (write(fd, text, strlen(text)) < 0)
			errno = 0;
		close(fd);
	}
}

/*
 * A container's root outlives the step that prepared it: squashfuse must not end with that step's cgroup, nor be spared
 * when memory is short because slurmstepd is. Lines of /proc/self/cgroup are `NUMBER:CONTROLLERS:PATH`; Slurm calls its
 * folders job_NUMBER, in cgroup v1 and v2.
 */
static void leave_step(void)
{
	char text[8192], path[512];
	int fd = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
	ssize_t got = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;

	if (fd >= 0)
		close(fd);
	text[got > 0 ? got : 0] = '\0';
	for (char *line = text, *next; line != NULL && *line != '\0'; line = next) {
		char *controllers = strchr(line, ':'), *group;

		next = strchr(line, '\n');
		if (next != NULL)
			*next++ = '\0';
		group = controllers != NULL ? strchr(++controllers, ':') : NULL;
		if (group == NULL || strstr(group, "/job_") == NULL)
			continue;
		*group = '\0';
		snprintf(path, sizeof(path), "/sys/fs/cgroup/%s/cgroup.procs", controllers);
		write_text(path, "0");
	}
	write_text("/proc/self/oom_score_adj", "0");
}

static bool can_keep_apart(void)
{
	return prctl(PR_CAPBSET_READ, CAP_WAKE_ALARM, 0, 0, 0) == 1;
}

/*
 * A capability that is good for nothing here, kept over exec. A process that has one more than its owner's others is
 * not theirs to trace or to write into, and this one is out of the job's cgroup. capabilities(7), ptrace(2).
 */
static int keep_apart(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{0}};
	__u32 bit = 1u << (CAP_WAKE_ALARM - 32);

	data[1] = (struct __user_cap_data_struct){.effective = bit, .permitted = bit, .inheritable = bit};
	if (syscall(SYS_capset, &header, data) < 0 || prctl(PR_SET_KEEPCAPS, 0) < 0 ||
	    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_WAKE_ALARM, 0, 0) < 0)
		return -errno;
	return 0;
}

/* Becomes squashfuse, which serves the mount on `fuse` until it is unmounted. Only async-signal-safe calls. */
static void serve(const struct user *user, int image, int fuse, bool is_apart, char *const argv[])
{
	/* What a hostile image can make of it; a real one takes some hundred MB. */
	static const struct rlimit memory = {.rlim_cur = 4UL << 30, .rlim_max = 4UL << 30}, no_core = {0};
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
	if (null < 0 || image < 0 || fuse < 0 || chdir("/") < 0 || setrlimit(RLIMIT_AS, &memory) < 0 ||
	    setrlimit(RLIMIT_CORE, &no_core) < 0 || (is_apart && prctl(PR_SET_KEEPCAPS, 1) < 0) || become(user) < 0 ||
	    (is_apart && keep_apart() < 0))
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

const char *squashfs_can_mount(char *path, size_t size)
{
	int fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fuse < 0)
		return NULL;
	close(fuse);
	return program_find("squashfuse", path, size);
}

int squashfs_mount(const struct user *user, int image, const char *squashfuse, const char *point, bool is_layer,
		   int timeout_ms, pid_t *server)
{
	char data[128], owner[64], byte[2] = "";
	char *argv[] = {(char *)squashfuse, "-f", "-o", owner, "/proc/self/fd/3", "/dev/fd/4", NULL};
	struct child_answer answer = {.buffer = byte, .room = sizeof(byte)};
	int fuse = -1, ids[2] = {-1, -1};
	int rv = 0;
	pid_t pid;

	if (mkdir(point, 0755) < 0 && errno != EEXIST)
		return -errno;
	fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (fuse < 0) {
		rv = -errno;
		goto done;
	}
	if (pipe2(ids, O_CLOEXEC) < 0) {
		rv = -errno;
		goto done;
	}
	snprintf(data, sizeof(data), "fd=%d,rootmode=40000,user_id=%u,group_id=%u%s", fuse, user->uid, user->gid,
		 is_layer ? ",allow_other" : "");
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
		if (pid == 0) {
			bool is_apart = is_layer && can_keep_apart();

			/* A process that its user can turn to other work stays under the job's limits. */
			if (is_apart)
				leave_step();
			serve(user, image, fuse, is_apart, argv);
		}
		_exit(pid > 0 && write(ids[1], &pid, sizeof(pid)) == sizeof(pid) ? 0 : 1);
	}
	waitpid(pid, NULL, 0);
	close(ids[1]);
	ids[1] = -1;
	if (read(ids[0], &pid, sizeof(pid)) != sizeof(pid)) {
		rv = -EAGAIN;
		goto done;
	}
	if (server != NULL)
		*server = pid;
	/* Once ours is closed, the end of squashfuse ends the mount: whoever waits on it gets an error, no hang. */
	close(fuse);
	fuse = -1;
	/* The folder around a layer is root's alone. */
	rv = child_run(is_layer ? NULL : user, look, (void *)point, timeout_ms, &answer);
	if (rv == 0 && answer.length == 1)
		rv = -(int)(unsigned char)byte[0];
	else if (rv == 0)
		rv = -EIO;
done:
	if (fuse >= 0)
		close(fuse);
	for (size_t i = 0; i < 2; i++)
		if (ids[i] >= 0)
			close(ids[i]);
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
