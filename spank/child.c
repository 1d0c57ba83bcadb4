#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

long long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int become(const struct user *user)
{
	/* The system calls themselves: glibc's wrappers speak to threads that a forked child does not have. */
	if (syscall(SYS_setgroups, user->group_count, user->groups) < 0 ||
	    syscall(SYS_setresgid, user->gid, user->gid, user->gid) < 0 ||
	    syscall(SYS_setresuid, user->uid, user->uid, user->uid) < 0)
		return -errno;
	return 0;
}

void close_from(int first)
{
#ifdef SYS_close_range
	if (syscall(SYS_close_range, (unsigned int)first, ~0U, 0U) == 0)
		return;
#endif
	/* Kernels before 5.9: descriptors of slurmstepd and srun are few and low. */
	for (int fd = first; fd < 4096; fd++)
		close(fd);
}

int child_keep_only(int out)
{
	int null, kept = STDERR_FILENO + 1;

	if (out != kept && dup2(out, kept) < 0)
		return -errno;
	close_from(kept + 1);
	null = open("/dev/null", O_RDWR);
	for (int stream = STDIN_FILENO; stream <= STDERR_FILENO; stream++)
		if (null < 0 || dup2(null, stream) < 0)
			return -errno;
	if (null > STDERR_FILENO)
		close(null);
	return kept;
}

int child_send_fd(int out, int fd)
{
	char byte = '+';
	struct iovec data = {.iov_base = &byte, .iov_len = 1};
	union {
		struct cmsghdr alignment;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control.space,
				 .msg_controllen = sizeof(control.space)};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(int));
	return sendmsg(out, &message, MSG_NOSIGNAL) == 1 ? 0 : -errno;
}

/* Receives what there is. Bytes, 0 at the end, -errno. */
static ssize_t receive(int in, struct child_answer *answer)
{
	char rest[256];
	size_t room = answer->room - 1 - answer->length;
	struct iovec data = {.iov_base = room > 0 ? answer->buffer + answer->length : rest,
			     .iov_len = room > 0 ? room : sizeof(rest)};
	union {
		struct cmsghdr alignment;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control.space,
				 .msg_controllen = sizeof(control.space)};
	struct cmsghdr *header;
	ssize_t got = recvmsg(in, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);

	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 1 : -errno;
	header = CMSG_FIRSTHDR(&message);
	if (header != NULL && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(sizeof(int))) {
		if (answer->fd >= 0)
			close(answer->fd);
		memcpy(&answer->fd, CMSG_DATA(header), sizeof(int));
	}
	if (room > 0)
		answer->length += (size_t)got;
	return got;
}

/* Fetches the exit code of a child that has closed its side, and so is ending. */
static int reap(pid_t pid, long long deadline)
{
	for (;;) {
		int status = 0;
		pid_t ended = waitpid(pid, &status, WNOHANG);

		if (ended == pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
		if (ended < 0 && errno != EINTR)
			return -1;
		if (now_ms() >= deadline)
			return -1;
		nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
	}
}

int child_run(const struct user *user, child_work *work, void *context, int timeout_ms, struct child_answer *answer)
{
	long long deadline = now_ms() + timeout_ms;
	int ends[2];
	int rv = 0;
	pid_t pid;

	answer->length = 0;
	answer->pid = 0;
	answer->fd = -1;
	answer->exit_code = -1;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	pid = fork();
	if (pid < 0) {
		rv = -errno;
		close(ends[1]);
		goto done;
	}
	if (pid == 0) {
		close(ends[0]);
		_exit(user != NULL && become(user) < 0 ? 126 : work(context, ends[1]));
	}
	close(ends[1]);
	answer->pid = pid;
	for (;;) {
		struct pollfd ready = {.fd = ends[0], .events = POLLIN};
		long long left = deadline - now_ms();
		int count = left <= 0 ? 0 : poll(&ready, 1, (int)left);
		ssize_t got;

		if (count == 0) {
			rv = -ETIMEDOUT;
			break;
		}
		if (count < 0 && errno == EINTR)
			continue;
		got = count < 0 ? -errno : receive(ends[0], answer);
		if (got <= 0) {
			rv = (int)got;
			break;
		}
	}
	if (rv < 0)
		kill(pid, SIGKILL);
	/* One that hangs in the kernel dies when the kernel lets it; nobody waits for that. */
	answer->exit_code = reap(pid, rv < 0 ? now_ms() + 20 : deadline);
done:
	answer->buffer[answer->length] = '\0';
	close(ends[0]);
	return rv;
}
