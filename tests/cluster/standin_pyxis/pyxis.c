/*
 * A stand-in for Pyxis, for tests on machines without Pyxis and enroot. It is a SPANK plugin of the name `pyxis` that
 * keeps what our plugin relies on: the options and variables, unpack-by-name into a data folder, the rules for the
 * environment, failures that show in task_init alone, and entering a new root there. It is no container runtime for
 * anybody's work.
 *
 *   required PATH/spank_pyxis.so data=FOLDER [container_scope=job|global] [mount=FOLDER]...
 *
 * data=   where containers are unpacked, as FOLDER/UID/pyxis_NAME; made if it is missing, writable by all
 * mount=  a folder of the node that every container sees, as enroot's mounts.d would do; one that is missing is left out
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <slurm/slurm.h>
#include <slurm/spank.h>

SPANK_PLUGIN(pyxis, 1)

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

enum { MAX_MOUNTS = 64 };
enum option { IMAGE, NAME, MOUNTS, OPTION_COUNT };

static char *given[OPTION_COUNT];
static const char *const variables[OPTION_COUNT] = {"PYXIS_CONTAINER_IMAGE", "PYXIS_CONTAINER_NAME",
						    "PYXIS_CONTAINER_MOUNTS"};

static struct {
	char data[PATH_MAX];
	bool scope_job;
	char *mounts[MAX_MOUNTS];
	size_t mount_count;
} config;

static struct {
	bool enabled;
	bool failed;
	bool temporary;
	uid_t uid;
	gid_t gid;
	uint32_t job;
	uint32_t step;
	char folder[PATH_MAX + 32]; /* the user's part of the data folder */
	char name[512];
	char root[PATH_MAX + 1024];
	char *script;
	atomic_bool *created; /* shared by the tasks */
} container;

static int take(int val, const char *value, int remote)
{
	(void)remote;
	if (value == NULL || value[0] == '\0') {
		slurm_error("pyxis: argument required");
		return -1;
	}
	if (given[val] != NULL && strcmp(given[val], value) != 0) {
		slurm_error("pyxis: option specified multiple times");
		return -1;
	}
	if (given[val] == NULL)
		given[val] = strdup(value);
	return given[val] != NULL ? 0 : -1;
}

static struct spank_option options[] = {
	{(char *)"container-image", (char *)"PATH", (char *)"[pyxis] the image to use", 1, IMAGE, take},
	{(char *)"container-name", (char *)"NAME", (char *)"[pyxis] the container's name", 1, NAME, take},
	{(char *)"container-mounts", (char *)"SRC:DST[:FLAGS][,SRC:DST...]", (char *)"[pyxis] bind mounts", 1, MOUNTS, take},
};

static void read_config(int ac, char **av)
{
	config.mount_count = 0;
	for (int i = 0; i < ac; i++) {
		if (strncmp(av[i], "data=", 5) == 0)
			snprintf(config.data, sizeof(config.data), "%s", av[i] + 5);
		else if (strncmp(av[i], "container_scope=", 16) == 0)
			config.scope_job = strcmp(av[i] + 16, "job") == 0;
		else if (strncmp(av[i], "mount=", 6) == 0 && config.mount_count < MAX_MOUNTS)
			config.mounts[config.mount_count++] = av[i] + 6;
	}
}

int slurm_spank_init(spank_t spank, int ac, char **av)
{
	read_config(ac, av);
	if (spank_context() != S_CTX_LOCAL && spank_context() != S_CTX_ALLOCATOR && spank_context() != S_CTX_REMOTE)
		return 0;
	for (size_t i = 0; i < OPTION_COUNT; i++)
		if (spank_option_register(spank, &options[i]) != ESPANK_SUCCESS)
			return -1;
	return 0;
}

static void cut_flags(void)
{
	char *flags = given[NAME] != NULL ? strchr(given[NAME], ':') : NULL;

	if (flags != NULL)
		*flags = '\0';
}

int slurm_spank_init_post_opt(spank_t spank, int ac, char **av)
{
	char value[PATH_MAX];
	void *shared;

	(void)ac;
	(void)av;
	for (int i = 0; i < OPTION_COUNT; i++) {
		const char *text = NULL;

		if (spank_context() != S_CTX_REMOTE)
			text = getenv(variables[i]);
		else if (spank_getenv(spank, variables[i], value, sizeof(value)) == ESPANK_SUCCESS)
			text = value;
		if (given[i] == NULL && text != NULL && text[0] != '\0')
			given[i] = strdup(text);
	}
	cut_flags();
	if (spank_context() != S_CTX_REMOTE)
		return 0;
	container.enabled = given[IMAGE] != NULL || given[NAME] != NULL;
	if (!container.enabled)
		return 0;
	if (spank_get_item(spank, S_JOB_UID, &container.uid) != ESPANK_SUCCESS ||
	    spank_get_item(spank, S_JOB_GID, &container.gid) != ESPANK_SUCCESS ||
	    spank_get_item(spank, S_JOB_ID, &container.job) != ESPANK_SUCCESS ||
	    spank_get_item(spank, S_JOB_STEPID, &container.step) != ESPANK_SUCCESS)
		return -1;
	if (mkdir(config.data, 01777) == 0)
		chmod(config.data, 01777);
	shared = mmap(NULL, sizeof(atomic_bool), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	container.created = shared != MAP_FAILED ? shared : NULL;
	return container.created != NULL ? 0 : -1;
}

/* As the user. Pyxis does not report errors here, since srun would end with 0: task_init does. */
int slurm_spank_user_init(spank_t spank, int ac, char **av)
{
	char **argv = NULL;
	int argc = 0;

	(void)ac;
	(void)av;
	if (!container.enabled)
		return 0;
	if (container.step == SLURM_BATCH_SCRIPT && spank_get_item(spank, S_JOB_ARGV, &argc, &argv) == ESPANK_SUCCESS && argc > 0)
		container.script = strdup(argv[0]);
	container.temporary = given[NAME] == NULL;
	if (container.temporary)
		snprintf(container.name, sizeof(container.name), "pyxis_%u.%u", container.job, container.step);
	else if (config.scope_job)
		snprintf(container.name, sizeof(container.name), "pyxis_%u_%s", container.job, given[NAME]);
	else
		snprintf(container.name, sizeof(container.name), "pyxis_%s", given[NAME]);
	snprintf(container.folder, sizeof(container.folder), "%s/%u", config.data, container.uid);
	snprintf(container.root, sizeof(container.root), "%s/%s", container.folder, container.name);
	mkdir(container.folder, 0700);
	if (access(container.root, F_OK) == 0) {
		*container.created = true;
		return 0;
	}
	if (given[IMAGE] == NULL) {
		slurm_error("pyxis: error: a container with name \"%s\" does not exist, and --container-image is not set",
			    container.name);
		container.failed = true;
	} else if (strspn(given[IMAGE], "./") == 0) {
		slurm_error("pyxis: failed to import docker image: %s", given[IMAGE]);
		container.failed = true;
	}
	return 0;
}

static int run(char *const argv[])
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);

		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		execvp(argv[0], argv);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return -1;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

/* The step's first task unpacks. Another job that does so at the same time collides, as with enroot. */
static int create(void)
{
	char lock_path[PATH_MAX + 128];
	char *argv[] = {(char *)"unsquashfs", (char *)"-no-progress", (char *)"-no-xattrs", (char *)"-dest", container.root,
			given[IMAGE], NULL};
	int rv = 0;
	int lock;

	snprintf(lock_path, sizeof(lock_path), "%s/.lock.%u.%u", container.folder, container.job, container.step);
	lock = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (lock < 0 || flock(lock, LOCK_EX) < 0)
		return -1;
	if (!*container.created) {
		if (mkdir(container.root, 0755) < 0) {
			slurm_error("pyxis: [ERROR] File already exists: %s", container.root);
			rv = -1;
		} else {
			rmdir(container.root);
			rv = run(argv);
		}
		if (rv < 0)
			slurm_error("pyxis: failed to create container filesystem for image: %s", given[IMAGE]);
		else
			*container.created = true;
	}
	close(lock);
	return rv;
}

/*
 * The image's values win over the job's, and the node's PATH and language stay outside. LD_LIBRARY_PATH and LD_PRELOAD of
 * the job reach the container where the image sets none: Pyxis 0.20 and 0.24 keep them from enroot alone.
 */
static int import_environment(spank_t spank)
{
	static const char *const dropped[] = {"PATH", "LANG", "LANGUAGE", "LC_ALL"};
	char path[sizeof(container.root) + 32], *line = NULL;
	size_t room = 0;
	ssize_t length;
	FILE *file;

	for (size_t i = 0; i < sizeof(dropped) / sizeof(dropped[0]); i++)
		spank_unsetenv(spank, dropped[i]);
	spank_setenv(spank, "PATH", DEFAULT_PATH, 1);
	snprintf(path, sizeof(path), "%s/etc/environment", container.root);
	file = fopen(path, "re");
	if (file == NULL)
		return 0;
	while ((length = getline(&line, &room, file)) > 0) {
		char *value = strchr(line, '=');

		line[strcspn(line, "\n")] = '\0';
		if (value == NULL)
			continue;
		*value++ = '\0';
		spank_setenv(spank, line, value, 1);
	}
	free(line);
	fclose(file);
	return 0;
}

static int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return written ? 0 : -1;
}

static void make_folders(char *path)
{
	for (char *slash = path + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
		*slash = '\0';
		mkdir(path, 0755);
		*slash = '/';
	}
}

/* Mounts SOURCE at TARGET inside, making the target (`x-create`). */
static int bind_in(const char *source, const char *target, bool read_only)
{
	char inside[PATH_MAX * 2 + 1024];
	struct stat st;

	if (stat(source, &st) < 0) {
		slurm_error("pyxis: --container-mounts: source path does not exist: %s", source);
		return -1;
	}
	snprintf(inside, sizeof(inside), "%s%s", container.root, target);
	make_folders(inside);
	if (S_ISDIR(st.st_mode)) {
		mkdir(inside, 0755);
	} else {
		int fd = open(inside, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

		if (fd >= 0)
			close(fd);
	}
	if (mount(source, inside, NULL, MS_BIND | MS_REC, NULL) < 0 ||
	    (read_only && mount(NULL, inside, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) < 0)) {
		slurm_error("pyxis: couldn't mount %s at %s: %s", source, target, strerror(errno));
		return -1;
	}
	return 0;
}

static int bind_all(void)
{
	char *entry, *rest = given[MOUNTS];

	if (bind_in("/proc", "/proc", false) < 0 || bind_in("/dev", "/dev", false) < 0 || bind_in("/sys", "/sys", false) < 0)
		return -1;
	for (size_t i = 0; i < config.mount_count; i++)
		if (access(config.mounts[i], F_OK) == 0 && bind_in(config.mounts[i], config.mounts[i], false) < 0)
			return -1;
	if (container.script != NULL && bind_in(container.script, container.script, true) < 0)
		return -1;
	while (rest != NULL && (entry = strsep(&rest, ",")) != NULL) {
		char *source = strsep(&entry, ":");
		char *target = strsep(&entry, ":");

		if (bind_in(source, target != NULL ? target : source, entry != NULL && strstr(entry, "ro") != NULL) < 0)
			return -1;
	}
	return 0;
}

static int enter(void)
{
	char map[64], inside[sizeof(container.root) + 8];

	/* A process that was root owns nothing in its /proc until it is dumpable again. */
	if (prctl(PR_SET_DUMPABLE, 1) < 0 || unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
		return -1;
	snprintf(map, sizeof(map), "%u %u 1", container.uid, container.uid);
	if (write_text("/proc/self/uid_map", map) < 0 || write_text("/proc/self/setgroups", "deny") < 0)
		return -1;
	snprintf(map, sizeof(map), "%u %u 1", container.gid, container.gid);
	if (write_text("/proc/self/gid_map", map) < 0)
		return -1;
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0 ||
	    mount(container.root, container.root, NULL, MS_BIND | MS_REC, NULL) < 0)
		return -1;
	/* Before the mounts: one of them may lie below /tmp, and so may what is mounted. */
	snprintf(inside, sizeof(inside), "%s/tmp", container.root);
	mkdir(inside, 01777);
	if (mount("tmpfs", inside, "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777") < 0 || bind_all() < 0)
		return -1;
	if (chdir(container.root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0)
		return -1;
	return chdir("/");
}

int slurm_spank_task_init(spank_t spank, int ac, char **av)
{
	(void)ac;
	(void)av;
	if (!container.enabled)
		return 0;
	if (container.failed || create() < 0)
		return -1;
	if (import_environment(spank) < 0)
		return -1;
	if (enter() < 0) {
		slurm_error("pyxis: couldn't enter the container: %s", strerror(errno));
		return -1;
	}
	return 0;
}

static int remove_as_user(const char *path, uid_t uid, gid_t gid)
{
	char *argv[] = {(char *)"rm", (char *)"-rf", (char *)"--one-file-system", (char *)"--", (char *)path, NULL};
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		if (setgid(gid) < 0 || setuid(uid) < 0)
			_exit(126);
		execv("/bin/rm", argv);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return -1;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

int slurm_spank_exit(spank_t spank, int ac, char **av)
{
	(void)spank;
	(void)ac;
	(void)av;
	if (spank_context() == S_CTX_REMOTE && container.enabled && container.temporary)
		remove_as_user(container.root, container.uid, container.gid);
	return 0;
}

/* With container_scope=job, a container that cannot be removed drains the node, as with Pyxis. */
int slurm_spank_job_epilog(spank_t spank, int ac, char **av)
{
	char folder[PATH_MAX + 32], prefix[32], path[sizeof(folder) + NAME_MAX + 2];
	struct dirent *entry;
	uint32_t job = 0;
	uid_t uid = 0;
	DIR *listing;
	int rv = 0;

	read_config(ac, av);
	if (!config.scope_job || spank_get_item(spank, S_JOB_ID, &job) != ESPANK_SUCCESS ||
	    spank_get_item(spank, S_JOB_UID, &uid) != ESPANK_SUCCESS)
		return 0;
	snprintf(folder, sizeof(folder), "%s/%u", config.data, uid);
	snprintf(prefix, sizeof(prefix), "pyxis_%u_", job);
	listing = opendir(folder);
	while (listing != NULL && (entry = readdir(listing)) != NULL) {
		struct stat st;

		snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
		if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0 && lstat(path, &st) == 0 &&
		    remove_as_user(path, uid, st.st_gid) < 0)
			rv = -1;
	}
	if (listing != NULL)
		closedir(listing);
	return rv;
}
