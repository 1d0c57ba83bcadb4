/*
 * A bounded child process: what may hang (a look at a shared file system, Python) is done where it can be left behind.
 * A process that waits for a hung Lustre client cannot even be killed; a child of ours that does so hurts nobody.
 */
#ifndef SLURM_FSX_CHILD_H
#define SLURM_FSX_CHILD_H

#include <stddef.h>
#include <sys/types.h>

/* Whom a child becomes before it works. */
struct user {
	uid_t uid;
	gid_t gid;
	const gid_t *groups;
	size_t group_count;
};

/*
 * What the child does: writes its answer to `out` and returns its exit code. It runs after fork(), perhaps of a process
 * with threads: it may call nothing that is not async-signal-safe, malloc() included.
 */
typedef int child_work(void *context, int out);

struct child_answer {
	char *buffer; /* NUL-terminated */
	size_t room;  /* of the buffer, in */
	size_t length;
	pid_t pid;    /* the child's, which may be no more */
	int fd;       /* a descriptor that the child sent, or -1 */
	int exit_code; /* -1 where the child was ended by a signal, or somebody else has reaped it */
};

/*
 * Runs `work` in a child, as `user` (NULL = as we are), for at most `timeout_ms`.
 * 0 when the child has closed its side, -ETIMEDOUT when it was killed and left behind, another -errno otherwise.
 */
int child_run(const struct user *user, child_work *work, void *context, int timeout_ms, struct child_answer *answer);

/* Milliseconds of a clock that nobody sets. Async-signal-safe. */
long long now_ms(void);

/* Sends one byte and a descriptor to the parent. 0 or -errno. */
int child_send_fd(int out, int fd);

/* Makes this process the user for good. 0 or -errno. Async-signal-safe. */
int become(const struct user *user);

/*
 * For a child that may be left behind: lets go of every descriptor but `out`, since whoever reads what srun or a step
 * prints would wait for its end. Gives the new number of `out`, or -errno. Async-signal-safe.
 */
int child_keep_only(int out);

/* Closes every descriptor from `first` on. Async-signal-safe. */
void close_from(int first);

#endif
