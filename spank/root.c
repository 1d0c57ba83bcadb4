#include "root.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "child.h"
#include "name.h"
#include "trusted_file.h"

static const char header[] = "# slurm-fsx root 1\n";
enum { RECORD_LIMIT = 64 * 1024, LOCK_POLL_NS = 5000000, END_POLLS = 10 };

/* Without a comma, colon, backslash or space, which mean something in an overlay's options or in mountinfo. */
static bool is_plain(const char *text)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-+@=/";

	return strspn(text, allowed) == strlen(text);
}

static int join(char path[PATH_MAX], const char *folder, const char *name)
{
	int length = snprintf(path, PATH_MAX, "%s/%s", folder, name);

	return length > 0 && length < PATH_MAX ? 0 : -EINVAL;
}

int root_name(const char *state_dir, uid_t uid, const char *container, struct root *root)
{
	char roots[PATH_MAX];
	int length;

	if (!path_is_sane(state_dir) || !is_plain(state_dir) || !is_plain(container) || strchr(container, '/') != NULL ||
	    container[0] == '\0')
		return -EINVAL;
	length = snprintf(root->id, sizeof(root->id), "%u.%s", uid, container);
	if (length < 0 || length >= (int)sizeof(root->id) || join(root->state_dir, state_dir, "") < 0)
		return -EINVAL;
	root->state_dir[strlen(root->state_dir) - 1] = '\0';
	if (join(roots, state_dir, "roots") < 0 || join(root->folder, roots, root->id) < 0 ||
	    join(root->record, root->folder, "state") < 0 || join(root->jobs, root->folder, "jobs") < 0 ||
	    join(root->image, root->folder, "image") < 0 || join(root->upper, root->folder, "upper") < 0 ||
	    join(root->work, root->folder, "work") < 0)
		return -EINVAL;
	return 0;
}

static int make_folder(const char *path, mode_t mode)
{
	return mkdir(path, mode) < 0 && errno != EEXIST ? -errno : 0;
}

int root_make_state(const char *state_dir)
{
	static const char *const parts[] = {"roots", "locks", "trash"};
	char path[PATH_MAX];
	int rv = 0;

	if (!path_is_sane(state_dir))
		return -EINVAL;
	for (const char *slash = strchr(state_dir + 1, '/'); rv == 0 && slash != NULL; slash = strchr(slash + 1, '/')) {
		snprintf(path, sizeof(path), "%.*s", (int)(slash - state_dir), state_dir);
		rv = make_folder(path, 0755);
	}
	if (rv == 0)
		rv = make_folder(state_dir, 0700);
	for (size_t i = 0; rv == 0 && i < sizeof(parts) / sizeof(parts[0]); i++) {
		rv = join(path, state_dir, parts[i]);
		if (rv == 0)
			rv = make_folder(path, 0700);
	}
	return rv;
}

static int lock_path(const struct root *root, char path[PATH_MAX])
{
	char locks[PATH_MAX];

	return join(locks, root->state_dir, "locks") < 0 ? -EINVAL : join(path, locks, root->id);
}

int root_lock(const struct root *root, int timeout_ms)
{
	long long deadline = now_ms() + timeout_ms;
	char path[PATH_MAX];
	int rv = lock_path(root, path);
	int lock = -1;

	if (rv < 0)
		return rv;
	for (;;) {
		struct stat held, named;

		if (lock < 0)
			lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (lock < 0)
			return -errno;
		if (flock(lock, LOCK_EX | LOCK_NB) == 0) {
			/* Whoever held it before may have removed the file: then others lock another one. */
			if (fstat(lock, &held) == 0 && stat(path, &named) == 0 && held.st_ino == named.st_ino &&
			    held.st_dev == named.st_dev)
				return lock;
			close(lock);
			lock = -1;
			continue;
		}
		if (errno != EWOULDBLOCK && errno != EINTR) {
			rv = -errno;
			break;
		}
		if (now_ms() >= deadline) {
			rv = -ETIMEDOUT;
			break;
		}
		nanosleep(&(struct timespec){.tv_nsec = LOCK_POLL_NS}, NULL);
	}
	close(lock);
	return rv;
}

void root_unlock(const struct root *root, int lock, bool for_good)
{
	char path[PATH_MAX];

	if (lock < 0)
		return;
	if (for_good && lock_path(root, path) == 0)
		unlink(path);
	close(lock);
}

static void copy_text(char *target, size_t size, const char *value)
{
	if (strlen(value) < size)
		memcpy(target, value, strlen(value) + 1);
}

int root_record_read(const struct root *root, struct root_record *record)
{
	char *text = NULL, *rest, *line;
	size_t size = 0;
	int rv;

	memset(record, 0, sizeof(*record));
	rv = trusted_file_read(root->record, geteuid(), RECORD_LIMIT, &text, &size);
	if (rv == 0 && strncmp(text, header, sizeof(header) - 1) != 0)
		rv = -EINVAL;
	if (rv < 0)
		goto done;
	rest = text;
	while ((line = strsep(&rest, "\n")) != NULL) {
		char *value = strchr(line, '=');

		if (value == NULL || line[0] == '#')
			continue;
		*value++ = '\0';
		if (strcmp(line, "uid") == 0)
			record->uid = (uid_t)strtoul(value, NULL, 10);
		else if (strcmp(line, "gid") == 0)
			record->gid = (gid_t)strtoul(value, NULL, 10);
		else if (strcmp(line, "scope") == 0)
			record->keeps_writes = strcmp(value, "global") == 0;
		else if (strcmp(line, "target") == 0 && path_is_sane(value))
			copy_text(record->target, sizeof(record->target), value);
		else if (strcmp(line, "image") == 0 && path_is_sane(value))
			copy_text(record->image, sizeof(record->image), value);
		else if (strcmp(line, "identity") == 0)
			copy_text(record->identity, sizeof(record->identity), value);
		else if (strcmp(line, "server") == 0)
			record->server = (pid_t)strtol(value, NULL, 10);
		else if (strcmp(line, "server_start") == 0)
			record->server_start = strtoull(value, NULL, 10);
	}
	if (record->target[0] == '\0' || record->image[0] == '\0')
		rv = -EINVAL;
done:
	free(text);
	return rv;
}

int root_record_write(const struct root *root, const struct root_record *record)
{
	char path[PATH_MAX], text[2 * PATH_MAX + 512];
	int rv = join(path, root->folder, ".state.new"), length, fd;

	if (rv < 0)
		return rv;
	length = snprintf(text, sizeof(text),
			  "%suid=%u\ngid=%u\nscope=%s\ntarget=%s\nimage=%s\nidentity=%s\nserver=%d\nserver_start=%llu\n",
			  header, record->uid, record->gid, record->keeps_writes ? "global" : "job", record->target,
			  record->image, record->identity, record->server, record->server_start);
	if (length < 0 || length >= (int)sizeof(text))
		return -EINVAL;
	/* Only the lock's holder writes here: what is left of another one was left by a crash. */
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	if (write(fd, text, (size_t)length) != length)
		rv = -EIO;
	close(fd);
	if (rv == 0 && rename(path, root->record) < 0)
		rv = -errno;
	return rv;
}

size_t roots_of_job(const char *state_dir, uint32_t job)
{
	char roots[PATH_MAX], path[PATH_MAX + NAME_MAX + 32];
	struct dirent *entry;
	size_t count = 0;
	DIR *listing = join(roots, state_dir, "roots") == 0 ? opendir(roots) : NULL;

	while (listing != NULL && (entry = readdir(listing)) != NULL) {
		snprintf(path, sizeof(path), "%s/%s/jobs/%u", roots, entry->d_name, job);
		count += access(path, F_OK) == 0;
	}
	if (listing != NULL)
		closedir(listing);
	return count;
}

int root_make(const struct root *root, uid_t uid, gid_t gid)
{
	int rv = make_folder(root->folder, 0700);

	if (rv == 0)
		rv = make_folder(root->jobs, 0700);
	if (rv == 0)
		rv = make_folder(root->image, 0700);
	if (rv == 0)
		rv = make_folder(root->work, 0700);
	if (rv == 0)
		rv = make_folder(root->upper, 0755);
	/* The container's own top folder; whatever the umask was. */
	if (rv == 0 && (chmod(root->upper, 0755) < 0 || lchown(root->upper, uid, gid) < 0))
		rv = -errno;
	return rv;
}

int root_discard(const struct root *root)
{
	char path[PATH_MAX];
	struct timespec now;
	int length;

	clock_gettime(CLOCK_REALTIME, &now);
	length = snprintf(path, sizeof(path), "%s/trash/%s.%lld.%ld", root->state_dir, root->id, (long long)now.tv_sec,
			  now.tv_nsec);
	if (length < 0 || length >= (int)sizeof(path))
		return -EINVAL;
	return rename(root->folder, path) < 0 && errno != ENOENT ? -errno : 0;
}

static int job_path(const struct root *root, uint32_t job, char path[PATH_MAX])
{
	char number[16];

	snprintf(number, sizeof(number), "%u", job);
	return join(path, root->jobs, number);
}

bool root_has_job(const struct root *root, uint32_t job)
{
	char path[PATH_MAX];

	return job_path(root, job, path) == 0 && access(path, F_OK) == 0;
}

int root_add_job(const struct root *root, uint32_t job)
{
	char path[PATH_MAX];
	int fd;

	if (job_path(root, job, path) < 0)
		return -EINVAL;
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

bool root_drop_job(const struct root *root, uint32_t job)
{
	char path[PATH_MAX];

	return job_path(root, job, path) == 0 && unlink(path) == 0;
}

static ssize_t read_of_process(const char *pid, const char *file, char *text, size_t size)
{
	char path[64];
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), "/proc/%.16s/%s", pid, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	got = read(fd, text, size - 1);
	close(fd);
	text[got > 0 ? got : 0] = '\0';
	return got;
}

/* Whether a process is the slurmstepd of a step of that job: root's, and it calls itself `slurmstepd: [JOB.STEP]`. */
static bool is_step_of(const char *pid, uint32_t job)
{
	char title[64], status[2048], wanted[40];

	snprintf(wanted, sizeof(wanted), "slurmstepd: [%u.", job);
	return read_of_process(pid, "cmdline", title, sizeof(title)) > 0 && strncmp(title, wanted, strlen(wanted)) == 0 &&
	       read_of_process(pid, "status", status, sizeof(status)) > 0 && strstr(status, "\nUid:\t0\t") != NULL;
}

/* By what the node itself knows: the prolog's file, which the epilog removes, or a step that runs. */
static bool job_is_here(uint32_t job, const char *run_dir)
{
	char path[PATH_MAX + 32];
	struct dirent *entry;
	bool found = false;
	DIR *proc;

	snprintf(path, sizeof(path), "%s/jobs/%u.env", run_dir, job);
	if (access(path, F_OK) == 0)
		return true;
	proc = opendir("/proc");
	while (!found && proc != NULL && (entry = readdir(proc)) != NULL)
		found = entry->d_name[0] >= '1' && entry->d_name[0] <= '9' && is_step_of(entry->d_name, job);
	if (proc != NULL)
		closedir(proc);
	return found;
}

bool root_is_shared(const struct root *root, uint32_t job, const char *run_dir)
{
	struct dirent *entry;
	bool shared = false;
	DIR *jobs = opendir(root->jobs);

	while (!shared && jobs != NULL && (entry = readdir(jobs)) != NULL) {
		unsigned long other = strtoul(entry->d_name, NULL, 10);

		shared = other != 0 && other != job && job_is_here((uint32_t)other, run_dir);
	}
	if (jobs != NULL)
		closedir(jobs);
	return shared;
}

unsigned long long process_start(pid_t pid)
{
	char number[16], text[1024];
	const char *field;

	snprintf(number, sizeof(number), "%d", pid);
	if (pid <= 0 || read_of_process(number, "stat", text, sizeof(text)) <= 0)
		return 0;
	/* Field 22; the second one is a name in parentheses, which may hold anything. */
	field = strrchr(text, ')');
	/* A zombie has ended. */
	if (field == NULL || field[1] != ' ' || field[2] == 'Z' || field[2] == 'X')
		return 0;
	for (int i = 2; i < 22 && field != NULL; i++)
		field = strchr(field + 1, ' ');
	return field != NULL ? strtoull(field, NULL, 10) : 0;
}

void process_end(pid_t pid, unsigned long long start)
{
	if (start == 0)
		return;
	for (int i = 0; i < END_POLLS; i++) {
		if (process_start(pid) != start)
			return;
		nanosleep(&(struct timespec){.tv_nsec = LOCK_POLL_NS}, NULL);
	}
	kill(pid, SIGKILL);
}
